"""A workload of the demo: an ordinary HTTP server that knows nothing of the mesh.

It answers every request with JSON that says who it is and whom it was told is calling. `POST /call/<name>/<path>`
makes it call the upstream that it was given under that name and return what came back.
"""

import argparse
import http.client
import json
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


class Handler(BaseHTTPRequestHandler):
    """Answers one connection. `name` and `upstreams` belong to the process."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are written apart: the body would wait 40 ms for the head's ACK
    name = ""
    upstreams: dict[str, str] = {}  # noqa: RUF012  # set once, before the first request

    def do_GET(self) -> None:  # the name that http.server calls
        """Say hello."""
        self._answer(200, {"workload": self.name, "path": self.path, "caller": self._caller()})

    def do_POST(self) -> None:  # the name that http.server calls
        """Take what is sent, or pass it on to an upstream."""
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        match self.path.split("/", 3):
            case ["", "call", name, path] if name in self.upstreams:
                self._answer(*self._call(name, f"/{path}", body))
            case _:
                self._answer(201, {"workload": self.name, "path": self.path, "caller": self._caller()})

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the signature that http.server has
        """Keep quiet: the sidecars log every request."""

    def _caller(self) -> str:
        return self.headers.get("x-forwarded-client-cert", "nobody that can be proven")

    def _call(self, name: str, path: str, body: bytes) -> tuple[int, dict[str, object]]:
        address = urlsplit(self.upstreams[name])
        connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=30)
        try:
            connection.request("POST", path, body, {"content-type": "application/json"})
            response = connection.getresponse()
            return response.status, {"workload": self.name, "got": json.loads(response.read())}
        except (OSError, http.client.HTTPException) as error:  # such as an answer that a change of policy cut off
            return 502, {"workload": self.name, "failed": str(error)}
        finally:
            connection.close()

    def _answer(self, status: int, content: dict[str, object]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    """Serve on the listening socket that the parent opened, until a signal ends the process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--name", required=True)
    parser.add_argument("--fd", type=int, required=True, help="file descriptor of the listening socket")
    parser.add_argument("--upstream", action="append", default=[], metavar="NAME=URL")
    arguments = parser.parse_args()
    Handler.name = arguments.name
    Handler.upstreams = dict(each.split("=", 1) for each in arguments.upstream)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler, bind_and_activate=False)
    server.socket.close()
    server.socket = socket.socket(fileno=arguments.fd)
    server.serve_forever()


if __name__ == "__main__":
    main()
