"""What the sidecar accepts as a value, said on this side of the wall between the programs: text to text.

Settings and annotations go to the sidecar as environment variables and flags, which it judges itself; what it would
refuse has to be refused when the pod is created, since later nobody looks. A test compares each kind here with the
sidecar's own parser. Quantities are those of Kubernetes
(https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/).
"""

import re
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from ipaddress import ip_address, ip_network
from typing import Final

from attrs import frozen

from certs.errors import SpiffeIdMalformed
from certs.spiffe import TrustDomain, WorkloadName
from mesh.wire import PROTOCOLS

EGRESSES: Final = ("allow", "registry-only")
LOG_LEVELS: Final = ("debug", "info", "warning", "error")
REQUEST_LOGS: Final = ("all", "denied", "off")

_NUMBER: Final = re.compile(r"[0-9]{1,9}", re.ASCII)
_HOST: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,252}[A-Za-z0-9])?", re.ASCII)
_QUANTITY: Final = re.compile(r"([0-9]{1,18}(?:\.[0-9]{0,9})?|\.[0-9]{1,9})(|[EPTGMk]|[EPTGMK]i|m)", re.ASCII)
_DECIMAL: Final = {"": 0, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY: Final = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}


@frozen
class Kind:
    """One kind of value: `check` returns the text as it is used, or raises ValueError; `accepted` follows "write"."""

    check: Callable[[str], str]
    accepted: str


def port(text: str) -> str:
    """A TCP port."""
    if not _NUMBER.fullmatch(text) or not 1 <= int(text) <= 65535:
        raise ValueError("is no port")
    return str(int(text))


def ports(text: str) -> str:
    """A TCP port, or the first and the last one of a range."""
    first, dash, last = text.partition("-")
    if not dash:
        return port(text)
    if int(port(first)) > int(port(last)):
        raise ValueError("begins above its end")
    return f"{port(first)}-{port(last)}" if port(first) != port(last) else port(first)


def held(allowed: Iterable[str], numbers: Iterable[int]) -> list[int]:
    """Which of these ports are among `allowed`, each a port or range of ports as `ports` returned it."""
    inside = expanded(allowed)
    return [n for n in numbers if n in inside]


def expanded(ranges: Iterable[str]) -> frozenset[int]:
    """Every port of ports and ranges as `ports` returned them, in a time that does not depend on how they overlap."""
    bounds = [(int(first), int(last or first)) for first, _, last in (each.partition("-") for each in ranges)]
    found: set[int] = set()
    beyond = 0
    for first, last in sorted(bounds):
        found.update(range(max(first, beyond), last + 1))
        beyond = max(beyond, last + 1)
    return frozenset(found)


def network(text: str) -> str:
    """An IP network in CIDR notation, with no bit of it beyond its prefix."""
    try:
        found = ip_network(text, strict=False)
    except ValueError:
        raise ValueError("is no IP network") from None
    if "%" in text:
        raise ValueError("has a zone, which no network of addresses can have")
    if ip_address(text.partition("/")[0]) != found.network_address:
        raise ValueError(f"is an address inside of the network {found}")
    if found.version == 6 and found.network_address.ipv4_mapped is not None:
        raise ValueError("maps IPv4 addresses into IPv6, and matches none of them")
    return str(found)


def declared_port(text: str) -> str:
    """`PORT/PROTOCOL`."""
    number, slash, protocol = text.partition("/")
    if not slash or protocol not in PROTOCOLS:
        raise ValueError("is not of the form PORT/PROTOCOL")
    return f"{port(number)}/{protocol}"


@frozen
class Place:
    """An IP address or host name, without brackets, and a TCP port."""

    host: str
    port: int

    @property
    def everywhere(self) -> bool:
        """Whether a listener here takes the port of every address."""
        return self.host in {"0.0.0.0", "::"}  # noqa: S104  # compared, not bound

    def collides(self, other: "Place") -> bool:
        """Whether two listeners here and there want the same port of the same address."""
        return self.port == other.port and (self.host == other.host or self.everywhere or other.everywhere)

    def reaches(self, listener: "Place") -> bool:
        """Whether who dials this place gets that listener, as far as the addresses tell."""
        near = self.host == listener.host or (listener.everywhere and _is_loopback(self.host))
        return near and self.port == listener.port


@frozen
class Inbound:
    """An explicit listener for mTLS, taken apart. `port` is what policies know the application by."""

    bind: Place
    application: Place
    port: int
    protocol: str


def inbound(text: str) -> str:
    """`IP:PORT=HOST:PORT/PROTOCOL`, and behind it `,port=PORT` where the mesh knows the application by another one."""
    read_inbound(text)
    return text


def read_inbound(text: str) -> Inbound:
    """The same, taken apart. Raises ValueError."""
    bind, equals, rest = text.partition("=")
    declared, comma, option = rest.partition(",")
    application, slash, protocol = declared.rpartition("/")
    if not equals or not slash or protocol not in PROTOCOLS or (comma and not option.startswith("port=")):
        raise ValueError("is not of that form")
    to = _address(application)
    return Inbound(_bind(bind), to, int(port(option.removeprefix("port="))) if comma else to.port, protocol)


def bind_of(text: str) -> Place | None:
    """Where a listener of `inbound` or `outbound` binds; None for a Unix socket."""
    bind = text.partition("=")[0]
    return None if bind.startswith("unix:") else _bind(bind)


def outbound(text: str) -> str:
    """`LOOPBACK-IP:PORT=NAMESPACE/WORKLOAD:PORT` or `unix:PATH=NAMESPACE/WORKLOAD:PORT`."""
    bind, equals, target = text.rpartition("=")
    name, colon, number = target.rpartition(":")
    if not equals or not colon:
        raise ValueError("is not of that form")
    port(number)
    _workload(name)
    if bind.startswith("unix:"):
        path = bind.removeprefix("unix:")
        if not path or {"\0", ","} & set(path) or len(path.encode()) > 107:  # sockaddr_un, unix(7)
            raise ValueError("has no path of a socket, which is 1 to 107 bytes without a comma")
    elif not _is_loopback(_bind(bind).host):
        raise ValueError("listens where others could use this workload's identity")
    return text


def dial_address(text: str) -> str:
    """`HOST:PORT` of something to connect to."""
    _address(text)
    return text


def trust_domain(text: str) -> str:
    """A trust domain's name."""
    try:
        return TrustDomain(text).name
    except SpiffeIdMalformed as error:
        raise ValueError(str(error)) from None


def quantity(text: str) -> str:
    """An amount of CPU or memory, above zero."""
    if not amount(text):
        raise ValueError("is nothing")
    return text


def amount(text: str) -> Decimal:
    """A quantity as a number, in units. Raises ValueError."""
    found = _QUANTITY.fullmatch(text)
    if not found:
        raise ValueError("is no quantity")
    number, unit = Decimal(found[1]), found[2]
    return number * Decimal(1024) ** _BINARY[unit] if unit in _BINARY else number.scaleb(_DECIMAL[unit])


def above_limit(requests: Mapping[str, str], limits: Mapping[str, str]) -> list[str]:
    """The resources of which more is requested than the limit allows, which no API server accepts."""
    return [name for name in requests if name in limits and amount(requests[name]) > amount(limits[name])]


def one_of(*words: str) -> Kind:
    """Exactly one of `words`."""

    def word(text: str) -> str:
        if text not in words:
            raise ValueError("is none of them")
        return text

    return Kind(word, " or ".join(words) if len(words) == 2 else f"one of {', '.join(words)}")


PORT: Final = Kind(port, "a port from 1 to 65535")
PORTS: Final = Kind(ports, "ports from 1 to 65535 or ranges of them, such as 8080,9000-9010")
NETWORK: Final = Kind(network, "IP networks, such as 10.0.0.0/8,fd00::/8")
DECLARED_PORT: Final = Kind(declared_port, f"PORT/PROTOCOL with {', '.join(PROTOCOLS)}, such as 8080/http,5432/tcp")
INBOUND: Final = Kind(
    inbound, f"IP:PORT=HOST:PORT/PROTOCOL with {', '.join(PROTOCOLS)}, such as 0.0.0.0:8443=127.0.0.1:8080/http"
)
OUTBOUND: Final = Kind(
    outbound,
    "LOOPBACK-IP:PORT=NAMESPACE/WORKLOAD:PORT or unix:PATH=NAMESPACE/WORKLOAD:PORT, such as "
    "127.0.0.1:9001=shop/payments:8080",
)
DIAL_ADDRESS: Final = Kind(dial_address, "HOST:PORT, such as doorward.doorward.svc:7443")
TRUST_DOMAIN: Final = Kind(trust_domain, "a name of a-z, 0-9, '.', '_' and '-', such as cluster.local")
QUANTITY: Final = Kind(quantity, "a quantity above zero, such as 250m, 0.5 or 128Mi")
EGRESS: Final = one_of(*EGRESSES)
LOG_LEVEL: Final = one_of(*LOG_LEVELS)
REQUEST_LOG: Final = one_of(*REQUEST_LOGS)


def _workload(text: str) -> None:
    try:
        WorkloadName.parse(text)
    except SpiffeIdMalformed as error:
        raise ValueError(str(error)) from None


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _bind(text: str) -> Place:
    found = _address(text)
    if found.host == "localhost":
        return Place("127.0.0.1", found.port)
    ip_address(found.host)
    return found


def _address(text: str) -> Place:
    host, colon, number = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or bracketed != (":" in host):
        raise ValueError("is no HOST:PORT, where an IPv6 address stands in brackets")
    host = host[1:-1] if bracketed else host
    if bracketed or not _HOST.fullmatch(host):
        ip_address(host)
    return Place(host, int(port(number)))
