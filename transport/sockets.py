"""What every socket of ours has in common: its options, the name of its other end, and the two ways to close it."""

import ipaddress
import socket
import struct
from contextlib import suppress
from typing import Final

import trio

# A peer that vanished (power, network) is noticed after a minute and a half of silence. TCP_USER_TIMEOUT would also end
# peers that are there and just do not read for a while, so unacknowledged bytes are left to the kernel's own patience.
KEEPALIVE_IDLE: Final = 60
KEEPALIVE_INTERVAL: Final = 10
KEEPALIVE_PROBES: Final = 3

PAUSE_SECONDS: Final = 0.1  # after the process ran out of descriptors: closing connections brings some back

_RESET = struct.pack("ii", 1, 0)
_DELIVER = struct.pack("ii", 0, 0)

Peername = tuple[str, int]
"""IP address (IPv4 where it came mapped into IPv6, no zone) and port; ("", 0) for a Unix socket."""


def tune(sock: trio.socket.SocketType) -> None:
    """No delay for small writes, and keepalive probes. Does nothing on a Unix socket."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    with suppress(OSError):  # a peer that is gone already makes some systems refuse options
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE:
            if option := getattr(socket, name, None):
                sock.setsockopt(socket.IPPROTO_TCP, option, value)


def peername(sock: trio.socket.SocketType) -> Peername:
    """The other end's address; ("", 0) where there is none, or where it has left already."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return "", 0
    try:
        host, port, *_ = sock.getpeername()
    except OSError:
        return "", 0
    return plain_address(host), port


def plain_address(host: str) -> str:
    """An IP address in its one spelling: IPv4 where it came mapped into IPv6, no zone."""
    address = ipaddress.ip_address(host.partition("%")[0])
    return str(getattr(address, "ipv4_mapped", None) or address)


def is_own(host: str) -> bool:
    """Whether an IP address is one of this machine's: the kernel would reach it from that same address."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect((host, 9))  # any port: nothing is sent
            return plain_address(sock.getsockname()[0]) == plain_address(host)
    except OSError:
        return False


def reset_unless_closed(sock: trio.socket.SocketType) -> None:
    """From now on any close but close() is a reset: also the kernel's, where this process is killed."""
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)


def close(sock: trio.socket.SocketType) -> None:
    """Close; what was written is still delivered. Tasks that wait on the socket get ClosedResourceError."""
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _DELIVER)
    sock.close()


def reset(sock: trio.socket.SocketType) -> None:
    """Close with a TCP reset, so that the other end sees that the stream was cut off."""
    reset_unless_closed(sock)
    sock.close()


_KEEPALIVE: Final = (
    ("TCP_KEEPIDLE", KEEPALIVE_IDLE),
    ("TCP_KEEPINTVL", KEEPALIVE_INTERVAL),
    ("TCP_KEEPCNT", KEEPALIVE_PROBES),
)
