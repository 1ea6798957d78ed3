"""Bytes over sockets, for both programs: TLS streams, plain streams, dialling and accepting. Imports only certs.

    errors      what can go wrong on the way, translated once from sockets and OpenSSL
    sockets     the options that every TCP socket of ours carries, and the address of its other end
    dial        dial(address, port) -> PlainStream; Dialled: the near ends of what was dialled
    original    original_destination(): where a redirected connection was meant to go
    accept      listen(...) -> listeners; serve(listeners, handler): one wall around every connection
    unix        unix_listener(path): the same on a Unix socket that only its owner can open
    places      Places: how many connections may be open at once, and who gives way where none is left
    budget      Budget: how many connections may be open before they have said who they are
    backoff     Backoff: how long to wait before trying again
    plain       PlainStream: TCP or Unix socket as a trio stream
    tls         TlsStream: the same surface over TLS by pyOpenSSL

Data flows: accept (or dial) -> socket -> TlsStream or PlainStream -> receive_some / send_all / send_eof -> aclose,
or abort() where the other side has to see that something was cut off.
"""

from transport.accept import Handler, listen, listen_on_both, serve
from transport.budget import Budget, BudgetClosed, OverBudget
from transport.dial import Dialled, dial
from transport.errors import (
    CannotAccept,
    ConnectFailed,
    ConnectRefused,
    ConnectTimeout,
    ConnectUnreachable,
    NotTls,
    TlsFailed,
)
from transport.original import original_destination
from transport.places import Places
from transport.plain import PlainStream
from transport.sockets import Peername
from transport.tls import TlsStream
from transport.unix import SocketTaken, unix_listener

__all__ = [
    "Budget",
    "BudgetClosed",
    "CannotAccept",
    "ConnectFailed",
    "ConnectRefused",
    "ConnectTimeout",
    "ConnectUnreachable",
    "Dialled",
    "Handler",
    "NotTls",
    "OverBudget",
    "Peername",
    "Places",
    "PlainStream",
    "SocketTaken",
    "TlsFailed",
    "TlsStream",
    "dial",
    "listen",
    "listen_on_both",
    "original_destination",
    "serve",
    "unix_listener",
]
