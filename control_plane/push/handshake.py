"""The TLS handshake of whoever connects to the control plane: within its time, and with the protocol that is spoken."""

import trio

from certs.tls import agreed_alpn, handshake_refusal
from control_plane.push.ending import Ending
from transport import NotTls, TlsFailed, TlsStream


async def shake_hands(stream: TlsStream, alpn: bytes, *, seconds: float, wanted: str) -> None:
    """Agree on keys and on `alpn`. `wanted` says what should have connected. Raises Ending."""
    with trio.move_on_after(seconds) as patience:
        try:
            await stream.do_handshake()
        except NotTls as error:
            raise Ending("not_tls", str(error)) from None
        except TlsFailed as error:
            refusal = handshake_refusal(stream.connection)
            raise Ending(refusal.code if refusal else "tls_failed", str(refusal or error)) from None
        except trio.BrokenResourceError as error:
            raise Ending("left_early", str(error)) from None
    if patience.cancelled_caught:
        raise Ending("handshake_timeout", f"no handshake within {seconds:g} s")
    if agreed_alpn(stream.connection) != alpn:
        raise Ending("wrong_protocol", f"the client does not offer {alpn.decode()}: is this {wanted}?")
