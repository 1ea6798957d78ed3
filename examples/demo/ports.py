"""Ports of loopback for programs that have to be told one, since they are found there again after a restart."""

import socket


def free_port() -> int:
    """A port where nobody listens, and that the kernel gives to nobody who leaves the choice to it.

    This process is bound to it for the rest of its life and never listens there: whoever asks for this very port, with
    SO_REUSEADDR as servers do, may listen there as often as it likes, and whoever connects meanwhile is refused.
    """
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", 0))
    port = int(sock.getsockname()[1])
    sock.detach()
    return port
