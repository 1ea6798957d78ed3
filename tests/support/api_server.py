"""An API server's end of the wire, scripted: real HTTPS on loopback in a thread, for what a real one cannot be made to
say."""

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from attrs import define, field, frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from certs.keys import key_to_pem, new_key
from control_plane.kubernetes.api import KubernetesApi
from control_plane.metrics import Metrics

Answer = tuple[int, Any]
"""HTTP status and a body: JSON data, or bytes as they are."""


@frozen
class Asked:
    """One request."""

    method: str
    path: str
    body: Any


@define(eq=False)
class ApiServer:
    """Answers every request with what `answer` makes of it; `asked` holds them all."""

    directory: Path
    answer: Callable[[Asked], Answer]
    asked: list[Asked] = field(factory=list)
    port: int = 0

    def api(self) -> KubernetesApi:
        """A client of it, which trusts it."""
        token = self.directory / "own-token"
        token.write_text("the.own.token")
        ca = self.directory / "api-server.pem"
        return KubernetesApi.open(f"https://127.0.0.1:{self.port}", ca=ca, token_file=token, metrics=Metrics())

    def take(self, asked: Asked) -> bytes:
        """The whole response."""
        self.asked.append(asked)
        status, said = self.answer(asked)
        body = said if isinstance(said, bytes) else json.dumps(said).encode()
        return b"HTTP/1.1 %d X\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s" % (status, len(body), body)


@contextmanager
def api_server(directory: Path, answer: Callable[[Asked], Answer]) -> Iterator[ApiServer]:
    """One that listens, and ends with the block."""
    server = ApiServer(directory, answer)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers.get("content-length", 0)))
            asked = Asked(self.command, self.path, json.loads(content) if content else None)
            self.wfile.write(server.take(asked))

        do_GET = do_PUT = do_PATCH = do_DELETE = do_POST  # noqa: N815 - so http.server looks for it

        def log_message(self, *_: object) -> None:
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    # Whoever connects and leaves in the middle of a handshake holds up its own thread, not the one that accepts.
    listening.socket = _context(directory).wrap_socket(
        listening.socket, server_side=True, do_handshake_on_connect=False
    )
    server.port = listening.server_port
    thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()


def _context(directory: Path) -> ssl.SSLContext:
    key, now = new_key(), datetime.now(UTC)
    name = x509.Name.from_rfc4514_string("CN=api server under test")
    address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(address, critical=False)
        .sign(key, hashes.SHA256())
    )
    file = directory / "api-server.pem"
    file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    keyed = directory / "api-server-with-key.pem"
    keyed.write_bytes(file.read_bytes() + key_to_pem(key))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(keyed)
    return context
