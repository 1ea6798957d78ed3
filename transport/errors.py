"""What can go wrong between two sockets, translated once at the edge.

trio.BrokenResourceError        the stream is broken: a reset, or an end without close_notify
    TlsFailed                   OpenSSL refused; `.reason` is its own short text
        NotTls                  what arrived is no TLS at all
OSError
    CannotAccept                this process has no descriptor or memory for one more connection
    ConnectFailed               nobody was reached
        ConnectRefused          the other host said no
        ConnectTimeout          nobody answered within the deadline
        ConnectUnreachable      no route, no such name, no descriptor left
"""

import trio


class TlsFailed(trio.BrokenResourceError):
    """TLS ended with an error. `reason` is OpenSSL's text, such as "unsupported protocol", never peer data."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class NotTls(TlsFailed):
    """The peer's first bytes are no TLS handshake."""


class CannotAccept(OSError):
    """Accepting pauses: this process, or the machine, has run out of descriptors or memory."""


class ConnectFailed(OSError):
    """A TCP connection could not be made. The message names address, port and cause."""


class ConnectRefused(ConnectFailed):
    """Nothing listens there, or a firewall answered for it."""


class ConnectTimeout(ConnectFailed):
    """No answer within the deadline."""


class ConnectUnreachable(ConnectFailed):
    """No route, no such name, or this process could not make a socket."""
