"""Where a redirected connection was meant to go: the address that its caller dialled, as the kernel remembers it."""

import socket
import struct
import sys
from ipaddress import IPv4Address, IPv6Address
from typing import Final

import trio

from transport.sockets import Peername

_SO_ORIGINAL_DST: Final = 80  # linux/netfilter_ipv4.h, and IP6T_SO_ORIGINAL_DST of linux/netfilter_ipv6/ip6_tables.h
_SOCKADDR_IN: Final = struct.Struct("!2xH4s8x")
_SOCKADDR_IN6: Final = struct.Struct("!2xH4x16s4s")


def original_destination(sock: trio.socket.SocketType) -> Peername | None:
    """The address and port that the caller of an accepted TCP connection dialled, before netfilter redirected it.

    None where the kernel remembers none: no rule redirected the connection, or this is no Linux. A connection that came
    straight to the listener may also yield the listener's own address.
    """
    try:
        if sock.family == socket.AF_INET6:
            said = sock.getsockopt(socket.IPPROTO_IPV6, _SO_ORIGINAL_DST, _SOCKADDR_IN6.size)
            port, packed, scope = _SOCKADDR_IN6.unpack(said)
            zone = int.from_bytes(scope, sys.byteorder)
            return f"{IPv6Address(packed)}%{zone}" if zone else str(IPv6Address(packed)), port
        port, packed = _SOCKADDR_IN.unpack(sock.getsockopt(socket.IPPROTO_IP, _SO_ORIGINAL_DST, _SOCKADDR_IN.size))
    except OSError:
        return None
    return str(IPv4Address(packed)), port
