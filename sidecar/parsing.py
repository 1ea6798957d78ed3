"""One setting's text to its value.

Every function raises ValueError with what is wrong; the table of settings adds what would be right.
"""

import ipaddress
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from certs.spiffe import TrustDomain, WorkloadName
from mesh.wire import PROTOCOLS
from sidecar.settings import EVERY_ADDRESS, Address, DeclaredPort, Inbound, Outbound

_SECONDS: Final = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_BYTES: Final = {"": 1, "KiB": 1024, "MiB": 1024**2}
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m|h)?", re.ASCII)
_SIZE = re.compile(r"([0-9]{1,12})(KiB|MiB)?", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,9}", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,252}[A-Za-z0-9])?", re.ASCII)


def workload(text: str) -> WorkloadName:
    """`namespace/workload`."""
    if text.count("/") != 1:
        raise ValueError("is no workload")
    return WorkloadName.parse(text)


def trust_domain(text: str) -> TrustDomain:
    """A trust domain name."""
    return TrustDomain(text)


def path(text: str) -> Path:
    """A file's path."""
    if not text or "\0" in text:
        raise ValueError("is no path")
    return Path(text)


def file_or_stdin(text: str) -> str:
    """A file's path, or "-" for standard input."""
    return str(path(text))


def host_name(text: str) -> str:
    """An IP address or host name, without port or brackets."""
    if _ip(text) is None and not _NAME.fullmatch(text):
        raise ValueError("is no host name or IP address")
    return text


def ip_address(text: str) -> str:
    """An IP address that others can dial."""
    address = _ip(text)
    if address is None:
        raise ValueError("is no IP address")
    if address.is_unspecified or address.is_multicast:
        raise ValueError("is no address that others can dial")
    return str(address)


def dial_address(text: str) -> Address:
    """`HOST:PORT` of something to connect to."""
    return _address(text, lowest_port=1)


def bind_address(text: str) -> Address:
    """`IP:PORT` of something to listen on; port 0 takes a free one, and localhost means 127.0.0.1."""
    address = _address(text, lowest_port=0)
    if address.host == "localhost":
        return Address("127.0.0.1", address.port)
    if _ip(address.host) is None:
        raise ValueError("a listener needs an IP address or localhost")
    return address


def observe_address(text: str) -> Address:
    """`IP:PORT` of something to listen on, or `*:PORT` for every address of both IP versions."""
    host, _, number = text.rpartition(":")
    if host == EVERY_ADDRESS:
        return Address(EVERY_ADDRESS, _port(number, lowest=0))
    return bind_address(text)


def inbound(text: str) -> Inbound:
    """`BIND=APPLICATION/PROTOCOL`, such as 0.0.0.0:8443=127.0.0.1:8080/http; `,port=80` where the mesh knows it so."""
    bind, equals, rest = text.partition("=")
    declared, comma, option = rest.partition(",")
    application, slash, protocol = declared.rpartition("/")
    if not equals or not slash or (comma and not option.startswith("port=")):
        raise ValueError("is not of the form BIND=APPLICATION/PROTOCOL or BIND=APPLICATION/PROTOCOL,port=PORT")
    known_as = port(option.removeprefix("port=")) if comma else None
    return Inbound(bind_address(bind), dial_address(application), _protocol(protocol), known_as)


def outbound(text: str) -> Outbound:
    """`BIND=NAMESPACE/WORKLOAD:PORT`; BIND is a loopback address with port, or unix:PATH."""
    bind, equals, target = text.rpartition("=")
    name, colon, number = target.rpartition(":")
    if not equals or not colon:
        raise ValueError("is not of the form BIND=NAMESPACE/WORKLOAD:PORT")
    destination = WorkloadName.parse(name)
    if bind.startswith("unix:"):
        return Outbound(_socket_path(bind.removeprefix("unix:")), destination, port(number))
    address = bind_address(bind)
    if not is_loopback(address.host):
        raise ValueError(f"{address.host} is no loopback address: it would lend this workload's identity to others")
    return Outbound(address, destination, port(number))


def declared_port(text: str) -> DeclaredPort:
    """`PORT/PROTOCOL`, such as 8080/http."""
    number, slash, protocol = text.partition("/")
    if not slash:
        raise ValueError("is not of the form PORT/PROTOCOL")
    return DeclaredPort(port(number), _protocol(protocol))


def port(text: str) -> int:
    """A TCP port."""
    return _port(text, lowest=1)


def network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """An IP network in CIDR notation, of which no address is left out unseen."""
    if "%" in text:
        raise ValueError("has a zone, which no network of addresses can have")
    try:
        found = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError("is no IP network") from None
    if ipaddress.ip_address(text.partition("/")[0]) != found.network_address:
        raise ValueError(f"is an address inside of the network {found}")
    if found.version == 6 and found.network_address.ipv4_mapped is not None:
        raise ValueError("maps IPv4 addresses into IPv6, and matches none of them: give the IPv4 network")
    return found


def switch(text: str) -> bool:
    """`true` or `false`."""
    if text not in {"true", "false"}:
        raise ValueError("is neither")
    return text == "true"


def seconds(text: str) -> float:
    """A duration: a number of seconds, or with the unit ms, s, m or h."""
    found = _DURATION.fullmatch(text)
    if not found or not (value := float(found[1]) * _SECONDS[found[2] or ""]):
        raise ValueError("is no duration above zero")
    return value


def size(text: str) -> int:
    """A number of bytes, or with the unit KiB or MiB; at least 1 KiB."""
    found = _SIZE.fullmatch(text)
    if not found or (value := int(found[1]) * _BYTES[found[2] or ""]) < _BYTES["KiB"]:
        raise ValueError("is no size of at least 1 KiB")
    return value


def count(text: str) -> int:
    """A whole number from 1."""
    if not _NUMBER.fullmatch(text) or not (value := int(text)):
        raise ValueError("is no whole number above zero")
    return value


def one_of(words: Sequence[str]) -> Callable[[str], str]:
    """A parser that takes exactly one of `words`."""

    def word(text: str) -> str:
        if text not in words:
            raise ValueError("is none of them")
        return text

    return word


def is_loopback(host: str) -> bool:
    """True for localhost and for addresses that never leave this machine."""
    address = _ip(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def _address(text: str, *, lowest_port: int) -> Address:
    host, colon, port = text.rpartition(":")
    if not colon:
        raise ValueError("has no port")
    bracketed = host.startswith("[") and host.endswith("]")
    if bracketed != (":" in host):
        raise ValueError("an IPv6 address stands in brackets, [::1]:8080")
    return Address(host_name(host[1:-1] if bracketed else host), _port(port, lowest=lowest_port))


def _port(text: str, *, lowest: int) -> int:
    if not _NUMBER.fullmatch(text) or not lowest <= int(text) <= 65535:
        raise ValueError(f"port {text[:20]!r} is no number from {lowest} to 65535")
    return int(text)


def _protocol(text: str) -> str:
    if text not in PROTOCOLS:
        raise ValueError(f"protocol {text[:20]!r} is none of {', '.join(PROTOCOLS)}")
    return text


def _socket_path(text: str) -> Path:
    if not text or "\0" in text:
        raise ValueError("unix: needs a path")
    if len(text.encode()) > 107:  # sockaddr_un, unix(7)
        raise ValueError("a Unix socket's path has at most 107 bytes")
    return Path(text)


def _ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
