"""The admin server: accept, ask the kernel who calls, hand the stream to Hypercorn with that name attached.

Hypercorn's own `serve` exposes no peer, unlinks an existing socket without asking and leaves it open to everybody; so
the listening and accepting are ours, and only its per-connection `TCPServer` is used. The caller reaches the routes
as `request.state.caller`, which no request can set. A caller that is neither root nor the user of this process is
shut out although the mode of the socket already does that.
"""

import functools
import logging
import os
import socket
from pathlib import Path
from typing import Any, cast

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ASGIFramework, ConnectionState

from control_plane.admin import unix_socket
from control_plane.admin.backend import Backend
from control_plane.admin.guard import guarded
from control_plane.admin.routes import application

log = logging.getLogger("doorward.admin")


async def serve(
    socket_path: Path,
    backend: Backend,
    *,
    task_status: trio.TaskStatus[list[trio.SocketListener]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer on `socket_path` until cancelled; `task_status` reports when it listens.

    Raises unix_socket.SocketRefused where the socket cannot be made, or belongs to somebody else.
    """
    admin_socket = unix_socket.listen(socket_path)
    handler = functools.partial(
        _serve_connection, ASGIWrapper(cast("ASGIFramework", guarded(application(backend)))), _config()
    )
    try:
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(admin_socket.sock))
        await trio.serve_listeners(handler, [listener], task_status=task_status)
    finally:
        admin_socket.remove()


def _config() -> Config:
    config = Config()
    config.errorlog = log
    config.include_server_header = False
    config.read_timeout = 60
    config.keep_alive_timeout = 60
    return config


async def _serve_connection(app: ASGIWrapper, config: Config, stream: trio.SocketStream) -> None:
    """One connection, and the wall that keeps its failure from ending the server."""
    caller = unix_socket.caller_of(
        stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, unix_socket.credentials_size())
    )
    if caller.uid not in {0, os.geteuid()}:
        log.warning("refused a connection of user %s", caller.author)
        await trio.aclose_forcefully(stream)
        return
    try:
        await TCPServer(app, config, WorkerContext(None), ConnectionState({"caller": caller}), cast("Any", stream))
    except Exception:
        log.exception("an admin connection failed")
        await trio.aclose_forcefully(stream)
