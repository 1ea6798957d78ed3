"""A flood of TLS KeyUpdates, which say nothing and cost a key derivation each, must not hold the loop (law 31).

pyOpenSSL cannot send a KeyUpdate, so the flood comes from the system's libssl by ctypes, in a thread.
"""

import ctypes
import ctypes.util
import socket
import time

import pytest
import trio

from certs.tls import server_context
from tests.support.pki import Pki
from transport import TlsStream

UPDATES = 12_000
HELD_AT_MOST = 0.25  # seconds; at once the whole flood takes more than twice as long


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


def flood(libssl: ctypes.CDLL, port: int) -> None:
    """Shake hands, send UPDATES KeyUpdates and then one byte."""
    with socket.create_connection(("127.0.0.1", port)) as sock:
        context = ctypes.c_void_p(libssl.SSL_CTX_new(ctypes.c_void_p(libssl.TLS_client_method())))
        ssl = ctypes.c_void_p(libssl.SSL_new(context))
        assert libssl.SSL_set_fd(ssl, sock.fileno()) == 1
        assert libssl.SSL_connect(ssl) == 1
        for _ in range(UPDATES):
            assert libssl.SSL_key_update(ssl, 0) == 1
            assert libssl.SSL_do_handshake(ssl) == 1
        assert libssl.SSL_write(ssl, b"x", 1) == 1
        while sock.recv(4096):  # session tickets, then the end
            pass
        libssl.SSL_free(ssl)
        libssl.SSL_CTX_free(context)


async def test_a_flood_of_key_updates_lets_others_work() -> None:
    libssl, pki = load_libssl(), Pki()
    context = server_context(pki.svid(), pki.bundle, [], client_certificate=False)
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            before = time.perf_counter()
            await trio.lowlevel.checkpoint()
            longest = max(longest, time.perf_counter() - before)

    with trio.socket.socket() as listening:
        await listening.bind(("127.0.0.1", 0))
        listening.listen()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, flood, libssl, listening.getsockname()[1])
            sock, _ = await listening.accept()
            stream = TlsStream(sock, context, server_side=True)
            await stream.do_handshake()
            await trio.sleep(0.5)  # the flood gathers in the kernel
            nursery.start_soon(watch)
            await trio.sleep(0.01)
            assert await stream.receive_some() == b"x"
            await stream.aclose()
            nursery.cancel_scope.cancel()
    assert longest < HELD_AT_MOST
