"""The admin server: accept, ask the kernel who calls, answer with that name attached.

Hypercorn's own `serve` exposes no peer, unlinks an existing socket without asking and leaves it open to everybody; so
the listening is ours, and the accepting that of control_plane.web. The caller reaches the routes as
`request.state.caller`, which no request can set. A caller that is neither root nor the user of this process is shut out
although the mode of the socket already does that.
"""

import logging
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import trio

from control_plane.admin import unix_socket
from control_plane.admin.backend import Backend
from control_plane.admin.guard import guarded
from control_plane.admin.routes import application
from control_plane.metrics import Metrics
from control_plane.web import Web

PATIENCE = 60.0  # seconds for a request, and between two on one connection

log = logging.getLogger("doorward.admin")


async def serve(
    socket_path: Path,
    backend: Backend,
    metrics: Metrics,
    *,
    max_connections: int,
    task_status: trio.TaskStatus[list[trio.SocketListener]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer on `socket_path` until cancelled; `task_status` reports when it listens.

    Raises unix_socket.SocketRefused where the socket cannot be made, or belongs to somebody else.
    """
    admin_socket = unix_socket.listen(socket_path)
    try:
        listeners = [trio.SocketListener(trio.socket.from_stdlib_socket(admin_socket.sock))]
        task_status.started(listeners)
        web = Web("admin", guarded(application(backend)), metrics, max_connections, PATIENCE)
        await web.serve(listeners, _admit)
    finally:
        admin_socket.remove()


def _admit(sock: trio.socket.SocketType) -> Mapping[str, Any] | None:
    """Who calls, as the state of its requests; None where it may not."""
    caller = unix_socket.caller_of(
        sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, unix_socket.credentials_size())
    )
    if caller.uid not in {0, os.geteuid()}:
        log.warning("refused a connection of user %s", caller.author)
        return None
    return {"caller": caller}
