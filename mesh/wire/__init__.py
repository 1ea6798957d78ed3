"""The push protocol between a sidecar and its control plane, as values and bytes; nothing here touches a socket.

    messages    what can be said, one frozen class each
    codec       encode(message) -> frame; FrameDecoder cuts a stream into payloads; decode(payload) -> message
    tokens      which kind of token attests in a CertificateRequest
    errors      what can be wrong with what a peer sent

Data flows: message -> encode -> TLS -> FrameDecoder.feed -> decode -> message.
"""

from mesh.wire.codec import (
    MAX_FRAME_TO_CONTROL_PLANE,
    MAX_FRAME_TO_SIDECAR,
    FrameDecoder,
    decode,
    encode,
    is_intact,
    snapshot_hash,
)
from mesh.wire.errors import FrameTooLarge, MessageMalformed, WireError
from mesh.wire.messages import (
    ALPN,
    EVERY_DESTINATION,
    PROTOCOL_VERSION,
    PROTOCOLS,
    Ack,
    Announce,
    Certificate,
    CertificateRequest,
    Endpoint,
    Hello,
    Listener,
    Message,
    Nack,
    Ping,
    Pong,
    Service,
    Snapshot,
    Unknown,
)
from mesh.wire.tokens import is_jwt

__all__ = [
    "ALPN",
    "EVERY_DESTINATION",
    "MAX_FRAME_TO_CONTROL_PLANE",
    "MAX_FRAME_TO_SIDECAR",
    "PROTOCOLS",
    "PROTOCOL_VERSION",
    "Ack",
    "Announce",
    "Certificate",
    "CertificateRequest",
    "Endpoint",
    "FrameDecoder",
    "FrameTooLarge",
    "Hello",
    "Listener",
    "Message",
    "MessageMalformed",
    "Nack",
    "Ping",
    "Pong",
    "Service",
    "Snapshot",
    "Unknown",
    "WireError",
    "decode",
    "encode",
    "is_intact",
    "is_jwt",
    "snapshot_hash",
]
