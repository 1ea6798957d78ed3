"""The setting `probes`: JSON text to Probe values, strictly, with every fault at once and its path. PURE.

    [{"name": "web/liveness", "http": {"scheme": "HTTP", "port": 8080, "path": "/healthz", "headers": [["Host", "x"]]},
      "host": "", "timeout": 1.0},
     {"name": "database/readiness", "tcp": {"port": 5432}, "timeout": 5}]

`scheme` (HTTP), `headers` (none), `host` ("") and `timeout` (1) may be left out. Nothing of a header's value gets into
a fault: it may be a password.
"""

import json
import re
from collections import Counter
from typing import Any, Final

import h11
from attrs import define, field

from sidecar import parsing
from sidecar.settings import PROBE_KINDS, HttpGet, Probe

MAX_SECONDS: Final = 3600

_NAME: Final = re.compile(rf"[a-z0-9](?:[-a-z0-9]{{0,61}}[a-z0-9])?/(?:{'|'.join(PROBE_KINDS)})", re.ASCII)


def probes(text: str) -> tuple[Probe, ...]:
    """The probes. Raises ValueError with everything that is wrong."""
    try:
        content = json.loads(text, object_pairs_hook=_without_duplicates, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is no JSON: {error}" if isinstance(error, _Odd) else "is no JSON") from None
    if not isinstance(content, list):
        raise ValueError("is no list")  # noqa: TRY004  # the text is wrong, not the type of an argument
    reading = _Reading()
    found = [reading.probe(f"[{index}]", item) for index, item in enumerate(content)]
    for name, times in Counter(probe.name for probe in found if probe).items():
        if times > 1:
            reading.fault("the whole", f"has {times} probes of the name {name}")
    if reading.faults:
        raise ValueError("; ".join(reading.faults))
    return tuple(probe for probe in found if probe)


class _Odd(ValueError):
    """What Python's reader would take and JSON does not mean."""


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise _Odd("a key stands twice in one object")
    return content


def _no_number(word: str) -> None:
    raise _Odd(f"{word} is no number")


@define
class _Reading:
    """Each method returns a value, or None and leaves a fault."""

    faults: list[str] = field(factory=list)

    def fault(self, path: str, message: str) -> None:
        self.faults.append(f"{path} {message}")

    def probe(self, path: str, item: object) -> Probe | None:
        before = len(self.faults)
        keys = self._object(path, item, {"name", "http", "tcp", "host", "timeout"})
        if keys is None:
            return None
        name = self._text(f"{path}.name", keys.get("name"), _NAME, f"<container>/<{'|'.join(PROBE_KINDS)}>")
        host = self._host(f"{path}.host", keys.get("host", ""))
        timeout = self._timeout(f"{path}.timeout", keys.get("timeout", 1))
        port, http = self._question(path, keys)
        if len(self.faults) > before:
            return None
        probe = Probe(name, port, http, host, timeout)
        if probe.hook and http is None:
            self.fault(f"{path}.tcp", "is for a hook, which the kubelet knows with http only")
        return probe

    def _question(self, path: str, keys: dict[str, Any]) -> tuple[int, HttpGet | None]:
        if ("http" in keys) == ("tcp" in keys):
            self.fault(path, "needs one of http and tcp")
        elif "tcp" in keys:
            content = self._object(f"{path}.tcp", keys["tcp"], {"port"})
            return (0 if content is None else self._port(f"{path}.tcp.port", content.get("port"))), None
        elif content := self._object(f"{path}.http", keys["http"], {"scheme", "port", "path", "headers"}):
            port = self._port(f"{path}.http.port", content.get("port"))
            return port, self._get(f"{path}.http", content)
        return 0, None

    def _get(self, path: str, content: dict[str, Any]) -> HttpGet | None:
        scheme = content.get("scheme", "HTTP")
        if scheme not in ("HTTP", "HTTPS"):
            self.fault(f"{path}.scheme", "is neither HTTP nor HTTPS")
        target = content.get("path")
        if not isinstance(target, str) or not target.startswith("/") or not _sendable(target):
            self.fault(f"{path}.path", "is no path of an HTTP request, which starts with / and is printable ASCII")
        return HttpGet(scheme, str(target), self._headers(f"{path}.headers", content.get("headers", [])))

    def _headers(self, path: str, items: object) -> tuple[tuple[str, str], ...]:
        if not isinstance(items, list):
            self.fault(path, "is no list")
            return ()
        for index, pair in enumerate(items):
            if not _is_pair(pair):
                self.fault(f"{path}[{index}]", "is no list of a name and a value")
            elif not _sendable("/", *pair):
                self.fault(f"{path}[{index}]", "is no header field of HTTP")
        return tuple((pair[0], pair[1]) for pair in items if _is_pair(pair))

    def _object(self, path: str, item: object, known: set[str]) -> dict[str, Any] | None:
        if not isinstance(item, dict):
            self.fault(path, "is no object")
            return None
        for key in sorted(item.keys() - known):
            self.fault(f"{path}.{key[:40]!r}", f"is unknown: the keys are {', '.join(sorted(known))}")
        return item

    def _text(self, path: str, value: object, pattern: re.Pattern[str], form: str) -> str:
        if isinstance(value, str) and pattern.fullmatch(value):
            return value
        self.fault(path, f"is not of the form {form}")
        return ""

    def _host(self, path: str, value: object) -> str:
        try:
            return parsing.host_name(value) if isinstance(value, str) and value else self._empty(path, value)
        except ValueError as error:
            self.fault(path, str(error))
            return ""

    def _empty(self, path: str, value: object) -> str:
        if value != "":
            self.fault(path, "is no text")
        return ""

    def _port(self, path: str, value: object) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 65535:
            return value
        self.fault(path, "is no number from 1 to 65535")
        return 0

    def _timeout(self, path: str, value: object) -> float:
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= MAX_SECONDS:
            return float(value)
        self.fault(path, f"is no number of seconds above 0 and at most {MAX_SECONDS}")
        return 0.0


def _is_pair(pair: object) -> bool:
    return isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair)


def _sendable(path: str, name: str = "Host", value: str = "") -> bool:
    """Whether h11, which writes it, takes the path and the header field."""
    host = [] if name.lower() == "host" else [("Host", "")]
    try:
        h11.Request(method="GET", target=path, headers=[*host, (name, value)])
    except (h11.LocalProtocolError, UnicodeError):
        return False
    return True
