"""A flood of TLS KeyUpdates, which say nothing and cost a key derivation each, must not hold the loop (law 31).

pyOpenSSL cannot send a KeyUpdate, so the flood comes from the system's libssl by ctypes, in a thread.
"""

import ctypes
import ctypes.util
import socket

import pytest
import trio

from certs.tls import server_context
from tests.support.pki import Pki
from transport import TlsStream

UPDATES = 1_000  # 27 bytes each: all of them fit into the kernel's buffers
TURNS = UPDATES // 2  # others' turns meanwhile, at least; where one read takes the whole flood it is a handful


def load_libssl() -> ctypes.CDLL:
    name = ctypes.util.find_library("ssl")
    if not name:
        pytest.skip("no libssl on this machine to send KeyUpdates with")
    libssl = ctypes.CDLL(name)
    if not hasattr(libssl, "SSL_key_update"):
        pytest.skip("this libssl is older than TLS 1.3")
    for function in ("TLS_client_method", "SSL_CTX_new", "SSL_new"):
        getattr(libssl, function).restype = ctypes.c_void_p
    return libssl


def flood(libssl: ctypes.CDLL, port: int, sent: trio.Event) -> None:
    """Shake hands, send UPDATES KeyUpdates and then one byte, say so, and wait for the end."""
    with socket.create_connection(("127.0.0.1", port)) as sock:
        context = ctypes.c_void_p(libssl.SSL_CTX_new(ctypes.c_void_p(libssl.TLS_client_method())))
        ssl = ctypes.c_void_p(libssl.SSL_new(context))
        assert libssl.SSL_set_fd(ssl, sock.fileno()) == 1
        assert libssl.SSL_connect(ssl) == 1
        for _ in range(UPDATES):
            assert libssl.SSL_key_update(ssl, 0) == 1
            assert libssl.SSL_do_handshake(ssl) == 1
        assert libssl.SSL_write(ssl, b"x", 1) == 1
        trio.from_thread.run_sync(sent.set)
        while sock.recv(4096):  # session tickets, then the end
            pass
        libssl.SSL_free(ssl)
        libssl.SSL_CTX_free(context)


async def test_a_flood_of_key_updates_lets_others_work() -> None:
    libssl, pki = load_libssl(), Pki()
    context = server_context(pki.svid(), pki.bundle, [], client_certificate=False)
    turns, sent = 0, trio.Event()

    async def count() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    with trio.socket.socket() as listening:
        await listening.bind(("127.0.0.1", 0))
        listening.listen()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, flood, libssl, listening.getsockname()[1], sent)
            sock, _ = await listening.accept()
            stream = TlsStream(sock, context, server_side=True)
            await stream.do_handshake()
            await sent.wait()  # the flood has gathered in the kernel
            nursery.start_soon(count)
            assert await stream.receive_some() == b"x"
            had = turns
            await stream.aclose()
            nursery.cancel_scope.cancel()
    assert had >= TURNS
