"""An operator elsewhere: its context leads through a tunnel to a real control plane, until it is banned."""

import json
from pathlib import Path

import trio

from examples.demo.local_mesh import PROGRAMS, Result, http_get, open_local_mesh
from tests.support.patience import PATIENCE
from tests.support.processes import logged


async def tunnel(where: str, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
    """What `kubectl port-forward` does: a port of this machine that leads to another address."""
    host, _, port = where.rpartition(":")

    async def pump(source: trio.SocketStream, sink: trio.SocketStream) -> None:
        try:
            async for chunk in source:
                await sink.send_all(chunk)
            await sink.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            await sink.aclose()

    async def carry(near: trio.SocketStream) -> None:
        async with await trio.open_tcp_stream(host, int(port)) as far, trio.open_nursery() as nursery:
            nursery.start_soon(pump, near, far)
            nursery.start_soon(pump, far, near)

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    task_status.started(f"127.0.0.1:{listener.socket.getsockname()[1]}")
    await trio.serve_listeners(carry, [listener])


async def test_an_operator_asks_through_a_tunnel_until_it_is_banned(short_directory: Path) -> None:
    async with open_local_mesh(short_directory) as mesh:
        process = await mesh.start_control_plane("--admin-listen", "127.0.0.1:0")
        admin_listen = json.loads((mesh.state / "run.json").read_text())["admin_listen"]

        async def elsewhere(*arguments: str, stdin: bytes = b"") -> Result:
            """The command on the operator's machine: no socket, contexts of its own."""
            environment = {**mesh.environment, "DOORWARD_CONTEXTS": str(short_directory / "contexts")}
            del environment["DOORWARD_ADMIN"]
            command = [str(PROGRAMS / "doorward"), *arguments]
            done = await trio.run_process(
                command, stdin=stdin, capture_stdout=True, capture_stderr=True, check=False, env=environment
            )
            return Result(done.returncode, done.stdout.decode(), done.stderr.decode())

        made = await mesh.doorward("operator", "create", "ann", "--context-file", "-")
        assert made.exit == 0, made.err
        async with trio.open_nursery() as nursery:
            through = await nursery.start(tunnel, admin_listen)
            added = await elsewhere("context", "add", "-", "--server", through, stdin=made.out.encode())
            assert added.exit == 0, added.err
            applied = await elsewhere("policy", "apply", "-f", "examples/shop", "-o", "json")
            assert applied.exit == 0, applied.err
            assert applied.json()["author"] == "operator:ann"
            assert (await elsewhere("audit", "verify")).exit == 0
            assert (await mesh.doorward("ban", "add", "operator:ann", "--reason", "laptop lost")).exit == 0
            refused = await elsewhere("sidecars")
            assert (refused.exit, "laptop lost" in refused.err) == (2, True)
            nursery.cancel_scope.cancel()
        away = await elsewhere("sidecars")
        assert (away.exit, "tunnel" in away.err) == (2, True)
        assert 'operators_refused_total{reason="banned"} 1' in (await http_get(mesh.observe, "/metrics"))[1]
        key = made.out.partition("BEGIN PRIVATE KEY-----\n")[2].splitlines()[0]
        assert key not in process.log.read_text()
        assert await process.stop(within=PATIENCE) == 0
        assert logged(process, "refused a request")[0]["identity"] == "spiffe://cluster.local/operator/ann"
