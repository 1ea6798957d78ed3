"""The program as a process: start-up step by step, what it leaves behind, and how it ends."""

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import define, field

from certs.tls import client_context
from examples.demo.local_mesh import http_get, json_lines
from mesh.wire import Announce
from sidecar.settings import Limits
from sidecar.view import ALPN_TCP
from tests.support.patience import PATIENCE
from tests.support.simulator import TOKEN, Simulator, allow, snapshot
from transport import TlsStream, dial
from transport.sockets import PAUSE_SECONDS

PROGRAM = Path(sys.executable).parent / "doorward-sidecar"


@define(eq=False)
class Running:
    """One sidecar process in a directory of its own, and the simulator that it talks to."""

    process: subprocess.Popen[bytes]
    directory: Path
    simulator: Simulator
    calls: list[TlsStream] = field(factory=list)

    @property
    def log(self) -> str:
        return (self.directory / "err").read_text()

    def events(self, name: str) -> list[dict[str, Any]]:
        return [line for line in json_lines(self.directory / "err") if line["event"] == name]

    def records(self) -> list[dict[str, Any]]:
        return json_lines(self.directory / "out")

    @property
    def addresses(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.directory / "run.json").read_text())
        return found

    async def until(self, condition: Callable[[], object], what: str) -> None:
        with trio.move_on_after(PATIENCE):
            while not condition():
                assert self.process.poll() is None or "exit" in what, f"ended while waiting for {what}\n{self.log}"
                await trio.sleep(0.02)
            return
        raise AssertionError(f"no {what}\n{self.log}")

    async def get(self, path: str) -> tuple[int, dict[str, Any]]:
        status, body = await http_get(self.addresses["observe"], path)
        return status, json.loads(body)

    async def accepted(self, connections: int) -> None:
        """Wait until so many connections to the guarded port are open."""
        wanted = f'connections_open{{direction="inbound"}} {connections}.0'
        with trio.fail_after(PATIENCE):
            while wanted not in (await http_get(self.addresses["observe"], "/metrics"))[1]:
                await trio.sleep(0.02)

    async def ready(self) -> None:
        await self.until(lambda: self.events("ready"), "ready")

    async def exit(self) -> int:
        await self.until(lambda: self.process.poll() is not None, "exit")
        return self.process.wait()

    async def call(self) -> TlsStream:
        """A connection of shop/frontend to the guarded port."""
        host, _, port = self.addresses["inbound"][0]["bind"].rpartition(":")
        pki = self.simulator.pki
        plain = await dial(host, int(port), deadline=5)
        context = client_context(pki.svid("shop/frontend"), pki.bundle, [ALPN_TCP])
        stream = TlsStream(plain.socket, context, server_side=False)
        self.calls.append(stream)
        await stream.do_handshake()
        return stream


async def shout(stream: trio.SocketStream) -> None:
    """The application: says everything back, louder."""
    with suppress(trio.BrokenResourceError):  # ended by a reset, where the sidecar ended it
        async for data in stream:
            await stream.send_all(bytes(data).upper())


@asynccontextmanager
async def running(directory: Path, *options: str, token: str = TOKEN, stdin: bytes = b"") -> AsyncIterator[Running]:
    """A sidecar for shop/checkout that guards `shout` as port 8080, allowed for shop/frontend."""
    simulator = Simulator()
    simulator.snapshot = snapshot(simulator.pki, 1, allow())
    (directory / "bundle.pem").write_bytes(simulator.pki.bundle.to_pem())
    (directory / "token").write_text(token)
    async with trio.open_nursery() as nursery:
        port = await simulator.listen(nursery)
        application = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, shout, application)
        known = f"127.0.0.1:{application[0].socket.getsockname()[1]}/tcp,port=8080"
        command = [str(PROGRAM), "run", "--workload", "shop/checkout", "--control-plane", f"127.0.0.1:{port}"]
        command += ["--bundle", "bundle.pem", "--token-file", "-" if stdin else "token", "--observe", "127.0.0.1:0"]
        command += ["--inbound", f"127.0.0.1:0={known}", "--run-file", "run.json", "--backoff-max", "300ms"]
        with (directory / "out").open("wb") as out, (directory / "err").open("wb") as err:
            process = subprocess.Popen(  # noqa: ASYNC220  # starts in a moment
                [*command, *options], cwd=directory, stdin=subprocess.PIPE, stdout=out, stderr=err
            )
        assert process.stdin is not None
        process.stdin.write(stdin)
        process.stdin.close()
        sidecar = Running(process, directory, simulator)
        try:
            await sidecar.until((directory / "run.json").exists, "run file")
            yield sidecar
        finally:
            for call in sidecar.calls:
                call.abort()
            process.kill()
            process.wait()
            nursery.cancel_scope.cancel()


async def said_back(stream: TlsStream, said: bytes) -> bytes:
    with trio.fail_after(PATIENCE):
        await stream.send_all(said)
        return await stream.receive_some()


async def test_it_is_ready_once_all_is_there_and_says_before_what_is_missing(tmp_path: Path) -> None:
    async with running(tmp_path, token="dwt_wrong") as sidecar:
        await sidecar.until(lambda: sidecar.events("control link failed"), "refused token")
        status, said = await sidecar.get("/ready")
        assert status == 503
        assert "doorward token create --workload shop/checkout" in said["reasons"][0]
        (tmp_path / "token").write_text(TOKEN)
        await sidecar.ready()
        assert await sidecar.get("/ready") == (200, {"ready": True})
        stream = await sidecar.call()
        assert await said_back(stream, b"hello") == b"HELLO"
        await stream.aclose()


async def test_real_addresses_are_in_run_file_config_log_and_announcement(tmp_path: Path) -> None:
    async with running(tmp_path, "--outbound", "127.0.0.1:0=shop/payments:8080") as sidecar:
        await sidecar.ready()
        addresses = sidecar.addresses
        assert (await sidecar.get("/config"))[1]["listeners"] == addresses
        logged = {line["address"] for line in sidecar.events("listening")}
        bound = {addresses["inbound"][0]["bind"], addresses["outbound"][0]["bind"], addresses["observe"]}
        assert logged == bound
        assert not any(address.endswith(":0") for address in bound)
        announce = sidecar.simulator.messages(Announce)[0]
        assert f"127.0.0.1:{announce.listeners[0].mesh_port}" == addresses["inbound"][0]["bind"]
        assert announce.listeners[0].port == 8080
        assert announce.destinations == ("shop/payments:8080",)
        assert "every local user" in sidecar.log


async def test_no_secret_is_written_or_logged(tmp_path: Path) -> None:
    async with running(tmp_path, "--log-level", "debug") as sidecar:
        await sidecar.ready()
        _, config = await sidecar.get("/config")
        core = 1 if resource.getrlimit(resource.RLIMIT_CORE)[1] else 0  # 0 does not hold where core files are piped
        assert resource.prlimit(sidecar.process.pid, resource.RLIMIT_CORE) == (core, core)
        written = {path.name for path in tmp_path.iterdir()}
        assert written == {"bundle.pem", "token", "run.json", "out", "err"}
        everything = sidecar.log + json.dumps(config) + (tmp_path / "out").read_text()
        assert TOKEN not in everything
        assert "PRIVATE KEY" not in everything


async def test_the_token_can_come_from_standard_input(tmp_path: Path) -> None:
    async with running(tmp_path, token="dwt_wrong", stdin=f"{TOKEN}\n".encode()) as sidecar:
        await sidecar.ready()


async def test_sigterm_lets_what_is_in_flight_finish_and_exits_0(tmp_path: Path) -> None:
    async with running(tmp_path) as sidecar:
        await sidecar.ready()
        stream = await sidecar.call()
        assert await said_back(stream, b"one") == b"ONE"
        sidecar.process.send_signal(signal.SIGTERM)
        await sidecar.until(lambda: "draining: it was told" in sidecar.log, "drain")
        status, said = await sidecar.get("/ready")
        assert (status, "draining" in said["reasons"][0]) == (503, True)
        await sidecar.until(lambda: len(sidecar.simulator.messages(Announce)) == 2, "farewell")
        assert sidecar.simulator.messages(Announce)[-1].listeners == ()
        with pytest.raises(OSError, match="refused"):
            await sidecar.call()
        assert await said_back(stream, b"two") == b"TWO"
        assert sidecar.process.poll() is None
        await stream.send_eof()
        assert await stream.receive_some() == b""
        await stream.aclose()
        assert await sidecar.exit() == 0
        (record,) = sidecar.records()
        assert (record["allowed"], record["bytes_in"]) == (True, 6)


async def test_what_does_not_finish_is_ended_at_the_bound(tmp_path: Path) -> None:
    async with running(tmp_path, "--drain-timeout", "300ms") as sidecar:
        await sidecar.ready()
        stream = await sidecar.call()
        await said_back(stream, b"one")
        sidecar.process.send_signal(signal.SIGTERM)
        began = trio.current_time()
        assert await sidecar.exit() == 0
        assert 0.25 < trio.current_time() - began < Limits().drain_timeout
        assert [record["reason"] for record in sidecar.records()] == ["draining"]
        await stream.aclose()


async def test_who_has_not_said_who_it_is_does_not_hold_up_the_drain(tmp_path: Path) -> None:
    async with running(tmp_path, "--handshake-timeout", "1h", "--drain-timeout", "1h") as sidecar:
        await sidecar.ready()
        host, _, port = sidecar.addresses["inbound"][0]["bind"].rpartition(":")
        strangers = [await dial(host, int(port), deadline=5) for _ in range(3)]
        for stranger, said in zip(strangers, (b"", b"\x16", b"\x16\x03\x01\x02\x00\x01"), strict=True):
            await stranger.send_all(said)
        await sidecar.accepted(len(strangers))
        sidecar.process.send_signal(signal.SIGTERM)
        assert await sidecar.exit() == 0
        assert [record["reason"] for record in sidecar.records()] == ["draining"] * len(strangers)
        for stranger in strangers:
            stranger.abort()


async def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    async with running(tmp_path) as sidecar:
        await sidecar.ready()
        stream = await sidecar.call()
        await said_back(stream, b"one")
        sidecar.process.send_signal(signal.SIGINT)
        await sidecar.until(lambda: sidecar.events("draining"), "drain")
        sidecar.process.send_signal(signal.SIGINT)
        assert await sidecar.exit() == 0


async def test_a_control_plane_that_leaves_does_not_stop_the_traffic(tmp_path: Path) -> None:
    async with running(tmp_path) as sidecar:
        await sidecar.ready()
        old = await sidecar.call()
        await said_back(old, b"one")
        sidecar.simulator.mute = True
        for link in sidecar.simulator.links:
            await link.stream.aclose()
        await sidecar.until(lambda: sidecar.events("control link failed"), "lost link")
        assert await said_back(old, b"two") == b"TWO"
        new = await sidecar.call()
        assert await said_back(new, b"three") == b"THREE"
        assert (await sidecar.get("/ready"))[0] == 200
        sidecar.simulator.mute = False
        links = len(sidecar.events("control link stands"))
        await sidecar.until(lambda: len(sidecar.events("control link stands")) > links, "new link")
        await old.aclose()
        await new.aclose()


def test_listeners_that_cannot_stand_are_all_named_and_the_exit_code_is_one(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [str(PROGRAM), "run", "--workload", "shop/checkout", "--control-plane", "127.0.0.1:1"]
        command += ["--bundle", "b", "--token-file", "t", "--observe", f"127.0.0.1:{port}"]
        command += ["--inbound", f"127.0.0.2:{port}=127.0.0.1:8080/http"]
        command += ["--outbound", "unix:/nowhere/at.all=shop/payments:8080", "--outbound", f"127.0.0.3:{port}=a/b:1"]
        with socket.create_server(("127.0.0.2", port)):
            done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False, env=os.environ)
    assert done.returncode == 1
    said = [line for line in done.stderr.decode().splitlines() if not line.startswith("{")]
    assert len(said) == 3, done.stderr
    assert f"--inbound 127.0.0.2:{port}" in said[0]
    assert "in use" in said[0]
    assert "--outbound unix:/nowhere/at.all" in said[1]
    assert f"--observe 127.0.0.1:{port}" in said[2]
    assert "Traceback" not in done.stderr.decode()


def test_closed_standard_descriptors_do_not_become_sockets_that_the_logs_are_written_into(tmp_path: Path) -> None:
    command = f"exec {PROGRAM} run --workload a/b --control-plane 127.0.0.1:1 --bundle b --token-file t "
    command += "--observe 127.0.0.1:0 --run-file run.json <&- >&- 2>&-"
    with subprocess.Popen(["sh", "-c", command], cwd=tmp_path) as process:
        try:
            deadline = time.monotonic() + PATIENCE
            while not (tmp_path / "run.json").exists():
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.02)
            held = [Path(f"/proc/{process.pid}/fd/{number}").readlink() for number in range(3)]
        finally:
            process.kill()
    assert held == [Path(os.devnull)] * 3


async def test_without_descriptors_it_says_so_once_and_serves_again_when_there_are_some(tmp_path: Path) -> None:
    async with running(tmp_path) as sidecar:
        await sidecar.ready()
        pid = sidecar.process.pid
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (len(list(Path(f"/proc/{pid}/fd").iterdir())), before[1]))
        async with trio.open_nursery() as nursery:

            async def call() -> None:
                assert await said_back(await sidecar.call(), b"hello") == b"HELLO"

            nursery.start_soon(call)
            await sidecar.until(lambda: sidecar.events("accepting pauses"), "pause")
            await trio.sleep(3 * PAUSE_SECONDS)
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        assert len(sidecar.events("accepting pauses")) == 1
        assert "Traceback" not in sidecar.log
