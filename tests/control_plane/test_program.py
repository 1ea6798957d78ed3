"""The control plane as a real process: it says where it listens, serves, and stops cleanly; or says why it cannot."""

import json
import os
import resource
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
import trio
from attrs import define, evolve

from certs.bundle import TrustBundle
from certs.tls import client_context
from control_plane.program import CannotStart, Running, serve
from control_plane.settings import ControlPlaneSettings, HostPort, Lifetimes
from examples.demo.local_mesh import json_lines
from mesh.wire import ALPN
from tests.support.patience import PATIENCE
from transport import TlsStream, dial

ANY = HostPort("127.0.0.1", 0)

RUN = """
import sys, trio
from pathlib import Path
from control_plane.program import run
from control_plane.settings import ControlPlaneSettings, HostPort
any = HostPort("127.0.0.1", 0)
trio.run(run, ControlPlaneSettings(state=Path(sys.argv[1]), listen=any, observe=any))
"""


@define
class Process:
    """A running control plane; what it logs goes to a file."""

    popen: subprocess.Popen[bytes]
    state: Path
    log: Path

    def lines(self) -> list[dict[str, object]]:
        return json_lines(self.log)

    async def ready(self) -> dict[str, object]:
        with trio.fail_after(PATIENCE):
            while not (found := [line for line in self.lines() if line["event"] == "ready"]):
                assert self.popen.poll() is None, self.log.read_text()
                await trio.sleep(0.02)
        return found[0]

    async def stop(self, number: int) -> int:
        self.popen.send_signal(number)
        return await trio.to_thread.run_sync(lambda: self.popen.wait(PATIENCE))


@pytest.fixture
def start(short_directory: Path) -> Iterator[Callable[[], Process]]:
    started = []

    def start() -> Process:
        log = short_directory / f"log-{len(started)}"
        command = [sys.executable, "-W", "error", "-c", RUN, str(short_directory / "state")]
        with log.open("wb") as stderr:
            environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
            command = ["sh", "-c", 'ulimit -Sn 256 && exec "$@"', "sh", *command]
            popen = subprocess.Popen(command, stderr=stderr, env=environment)
        started.append(Process(popen, short_directory / "state", log))
        return started[-1]

    yield start
    for process in started:
        process.popen.kill()
        process.popen.wait()


@asynccontextmanager
async def running(settings: ControlPlaneSettings) -> AsyncIterator[Running]:
    async with trio.open_nursery() as nursery:
        yield await nursery.start(serve, settings)
        nursery.cancel_scope.cancel()


@pytest.fixture
def settings(short_directory: Path) -> ControlPlaneSettings:
    return ControlPlaneSettings(state=short_directory / "state", listen=ANY, observe=ANY)


async def test_sigterm_stops_it_cleanly(start: Callable[[], Process]) -> None:
    process = start()
    line = await process.ready()
    run = json.loads((process.state / "run.json").read_text())
    assert run == {key: line[key] for key in ("listen", "observe", "admin", "admin_listen", "injector_listen", "pid")}
    assert run["pid"] == process.popen.pid
    assert stat.S_IMODE((process.state / "run.json").stat().st_mode) == 0o600
    soft, hard = resource.prlimit(process.popen.pid, resource.RLIMIT_NOFILE)
    assert soft >= min(hard, ControlPlaneSettings(process.state).limits.links)
    link = await handshake(run["listen"], process.state)
    assert await process.stop(signal.SIGTERM) == 0
    assert not (process.state / "run.json").exists()
    assert not (process.state / "admin.sock").exists()
    assert [line["event"] for line in process.lines() if line["level"] != "info"] == []
    link.abort()


async def test_it_comes_back_from_a_crash_with_the_same_ca_and_ctrl_c_ends_it(start: Callable[[], Process]) -> None:
    process = start()
    await process.ready()
    before = (process.state / "root.pem").read_bytes()
    await process.stop(signal.SIGKILL)
    process = start()
    await process.ready()
    assert (process.state / "root.pem").read_bytes() == before
    assert await process.stop(signal.SIGINT) == 0


async def test_every_address_of_run_json_answers(settings: ControlPlaneSettings) -> None:
    async with running(settings) as places:
        assert json.loads((settings.state / "run.json").read_text())["listen"] == places.listen
        (await handshake(places.listen, settings.state)).abort()
        assert places.observe is not None
        observed = await trio.open_tcp_stream(*host_and_port(places.observe))
        await observed.send_all(b"GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert (await observed.receive_some()).startswith(b"HTTP/1.1 200")
        await observed.aclose()
        admin = await trio.open_unix_socket(places.admin)
        await admin.send_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert (await admin.receive_some()).startswith(b"HTTP/1.1")
        await admin.aclose()


async def test_its_own_certificate_is_renewed_while_it_runs(settings: ControlPlaneSettings) -> None:
    brief = Lifetimes(own_certificate=timedelta(seconds=2))
    async with running(evolve(settings, lifetimes=brief)) as places:
        serials = set()
        with trio.fail_after(PATIENCE):
            while len(serials) < 2:
                stream = await handshake(places.listen, settings.state)
                certificate = stream.connection.get_peer_certificate(as_cryptography=True)
                assert certificate is not None
                serials.add(certificate.serial_number)
                stream.abort()
                await trio.sleep(0.1)


async def test_without_an_observe_address_there_is_none(settings: ControlPlaneSettings) -> None:
    async with running(evolve(settings, observe=None)) as places:
        assert places.observe is None
        assert json.loads((settings.state / "run.json").read_text())["observe"] is None


async def test_a_taken_port_is_said_by_its_setting(settings: ControlPlaneSettings) -> None:
    (taken,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with taken:
        where = HostPort("127.0.0.1", taken.socket.getsockname()[1])
        with pytest.raises(CannotStart, match="observe: cannot listen on"):
            await serve(evolve(settings, observe=where))
    async with running(settings):
        pass


async def test_a_state_directory_in_use_is_refused(settings: ControlPlaneSettings) -> None:
    async with running(settings):
        with pytest.raises(CannotStart, match="in use"):
            await serve(settings)


async def test_a_foreign_directory_is_refused(settings: ControlPlaneSettings) -> None:
    settings.state.mkdir(mode=0o700)
    (settings.state / "precious").write_text("mine")
    with pytest.raises(CannotStart, match="precious"):
        await serve(settings)
    assert [path.name for path in settings.state.iterdir()] == ["precious"]


async def test_another_trust_domain_is_refused(settings: ControlPlaneSettings) -> None:
    async with running(evolve(settings, trust_domain="one.example")):
        pass
    with pytest.raises(CannotStart, match=r"one\.example"):
        await serve(evolve(settings, trust_domain="two.example"))


async def test_an_admin_socket_in_use_is_refused(settings: ControlPlaneSettings, short_directory: Path) -> None:
    async with running(settings) as places:
        other = evolve(settings, state=short_directory / "other", admin_socket=places.admin)
        with pytest.raises(CannotStart, match="another process answers"):
            await serve(other)


def host_and_port(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


async def handshake(listen: str, state: Path) -> TlsStream:
    bundle = TrustBundle.from_pem((state / "root.pem").read_bytes())
    plain = await dial(*host_and_port(listen), deadline=PATIENCE)
    stream = TlsStream(plain.socket, client_context(None, bundle, [ALPN]), server_side=False)
    with trio.fail_after(PATIENCE):
        await stream.do_handshake()
    return stream
