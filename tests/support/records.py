"""TLS 1.3 records written by hand, on a connection whose handshake OpenSSL has made: those that OpenSSL never sends.

with handshaken(address, context) as (sock, records):
    sock.sendall(records.key_update() + records.seal(b""))
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from attrs import define
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from OpenSSL import SSL

HANDSHAKE: Final = 22
APPLICATION_DATA: Final = 23
CHANGE_CIPHER_SPEC: Final = b"\x14\x03\x03\x00\x01\x01"
EMPTY_HANDSHAKE: Final = b"\x16\x03\x03\x00\x00"

_SECRET = b"CLIENT_TRAFFIC_SECRET_0 "
_HASHES = {32: hashes.SHA256, 48: hashes.SHA384}


@define
class Records:
    """What the client sends next (RFC 8446 §5.2). Nothing may be sent by OpenSSL any more."""

    secret: bytes
    key_bytes: int
    _number: int = 0

    def seal(self, content: bytes, kind: int = APPLICATION_DATA) -> bytes:
        """One record."""
        head = b"\x17\x03\x03" + (len(content) + 17).to_bytes(2, "big")
        key, iv = self._expand(b"key", self.key_bytes), self._expand(b"iv", 12)
        nonce = (int.from_bytes(iv, "big") ^ self._number).to_bytes(12, "big")
        self._number += 1
        return head + AESGCM(key).encrypt(nonce, content + bytes([kind]), head)

    def key_update(self, *, answer: bool = False) -> bytes:
        """A KeyUpdate (§4.6.3), which asks for one in return where `answer`."""
        record = self.seal(b"\x18\x00\x00\x01" + bytes([answer]), HANDSHAKE)
        self.secret, self._number = self._expand(b"traffic upd", len(self.secret)), 0
        return record

    def _expand(self, label: bytes, length: int) -> bytes:
        """HKDF-Expand-Label with an empty context (§7.1)."""
        label = b"tls13 " + label
        info = length.to_bytes(2, "big") + bytes([len(label)]) + label + b"\x00"
        return HKDFExpand(_HASHES[len(self.secret)](), length, info).derive(self.secret)


@contextmanager
def handshaken(address: str, context: SSL.Context) -> Iterator[tuple[socket.socket, Records]]:
    """A connection to HOST:PORT after the handshake, and the records to go on with. Blocks."""
    lines: list[bytes] = []
    context.set_keylog_callback(lambda _, line: lines.append(line))
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=60) as sock:
        sock.settimeout(None)
        connection = SSL.Connection(context, sock)
        connection.set_connect_state()
        connection.do_handshake()
        (line,) = [line for line in lines if line.startswith(_SECRET)]
        sock.settimeout(60)
        yield (
            sock,
            Records(bytes.fromhex(line.split()[2].decode()), 16 if "128" in str(connection.get_cipher_name()) else 32),
        )


def client_hello(context: SSL.Context) -> bytes:
    """The first record of a handshake."""
    connection = SSL.Connection(context, None)
    connection.set_connect_state()
    try:
        connection.do_handshake()
    except SSL.WantReadError:
        return bytes(connection.bio_read(65536))
    raise AssertionError("nobody has answered")
