"""The CLI's end of the admin API: one blocking call per question, over the Unix socket or another door, by httpx2.

Whatever goes wrong becomes an AdminError whose message says what to do: ServerAway where no control plane answers,
AdminRefused where it answered and refused, and whatever else the door raises.
"""

import json
import socket
import struct
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import httpx2
from attrs import define, field, frozen

from control_plane.admin.errors import AdminRefused, ServerAway

BASE_URL = "http://localhost"
TIMEOUT = 300.0
"""Seconds for one answer: verifying a long audit log is the slowest question, at some ten thousand entries a second."""

# Where the socket's queue is full, a connect() that blocks waits for a place, for so long (SO_SNDTIMEO of socket(7));
# one with a timeout of Python's own fails at once, by EAGAIN.
_WAIT_IN_THE_QUEUE = (socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(TIMEOUT), 0))


class Door(Protocol):
    """A way to the control plane."""

    @property
    def name(self) -> str:
        """What messages call it."""

    def open(self) -> httpx2.BaseTransport:
        """Connect, before anything is asked. Raises AdminError."""


@frozen
class UnixDoor:
    """The admin socket at `path`."""

    path: Path

    @property
    def name(self) -> str:
        """The socket's path."""
        return str(self.path)

    def open(self) -> httpx2.BaseTransport:
        """Raises ServerAway where nobody answers."""
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.setsockopt(*_WAIT_IN_THE_QUEUE)
                probe.connect(str(self.path))
            except OSError as error:
                raise ServerAway(_away(self.path, error)) from error
        return _UnixTransport(str(self.path))


class _UnixTransport(httpx2.HTTPTransport):
    def __init__(self, path: str) -> None:
        # No TLS on a Unix socket: verify=False saves reading every CA of the system. Nor do proxies concern it.
        super().__init__(uds=path, verify=False, trust_env=False, socket_options=[_WAIT_IN_THE_QUEUE])

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        request.extensions["timeout"]["connect"] = None  # the socket's own holds
        return super().handle_request(request)


def _door(where: Path | Door) -> Door:
    return UnixDoor(where) if isinstance(where, Path) else where


@define
class Client:
    """Talks to the control plane behind a door, or at a socket's path. Use it as a context manager.

    Raises ServerAway, AdminRefused, and what the door raises.
    """

    door: Door = field(converter=_door)
    _http: httpx2.Client = field(init=False)

    def __enter__(self) -> Self:
        """Raises AdminError where nobody answers, before anything is asked."""
        transport = self.door.open()
        self._http = httpx2.Client(transport=transport, base_url=BASE_URL, timeout=TIMEOUT, trust_env=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def get(self, path: str, **params: Any) -> dict[str, Any]:
        """Ask."""
        return self._call("GET", path, params=params)

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Change, or ask a question that does not fit into a URL."""
        return self._call("POST", path, content=json.dumps(body))

    def delete(self, path: str, **params: Any) -> dict[str, Any]:
        """Remove what `params` names."""
        return self._call("DELETE", path, params=params)

    def _call(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        try:
            response = self._http.request(method, path, headers={"content-type": "application/json"}, **arguments)
        except UnicodeEncodeError as error:
            raise AdminRefused("bad_text", f"{error.object!r} is not valid Unicode", ()) from error
        except httpx2.TransportError as error:
            raise ServerAway(
                f"the control plane at {self.door.name} did not answer ({type(error).__name__}). A change may have "
                "been stored all the same: look with `doorward policy history` before you repeat it"
            ) from error
        answer = _object(response)
        if response.is_success:
            return answer
        faults = [str(each.get("text", "")) for each in answer.get("faults", [])]
        raise AdminRefused(str(answer.get("error", "unknown")), str(answer.get("message", response.text)), faults)


def _away(path: Path, error: OSError) -> str:
    """Why nobody answers, and what to do."""
    start = (
        "Start one with `doorward control-plane run --state DIR`, name its socket by --admin or DOORWARD_ADMIN, or "
        "reach one elsewhere: `doorward context add FILE`."
    )
    match error:
        case PermissionError():
            return f"this user may not open the admin socket {path}: run as the control plane's user, or as root"
        case FileNotFoundError() | NotADirectoryError():
            return f"no control plane: there is no admin socket at {path}. {start}"
        case ConnectionRefusedError():
            return f"no control plane answers on {path}. {start}"
    return f"the admin socket {path} cannot be used: {error.strerror or error}. {start}"


def _object(response: httpx2.Response) -> dict[str, Any]:
    try:
        answer = response.json()
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise AdminRefused(
            "not_doorward", f"what answers there is no Doorward control plane (HTTP {response.status_code})"
        )
    return answer
