"""A whole mesh on one machine: real processes on loopback, any free ports, everything in one directory.

    async with open_local_mesh(directory) as mesh:
        await mesh.start_control_plane()
        payments = await mesh.start_sidecar("shop/payments", inbound=["127.0.0.1:0=127.0.0.1:8080/http"])
        result = await mesh.doorward("policy", "apply", "-f", "examples/shop")

Every process logs into the directory, and none outlives the `async with`. The demo and the end-to-end tests use it.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio
from attrs import define, field, frozen

from control_plane.admin.client import Client
from examples.demo.ports import free_port

PROGRAMS = Path(sys.executable).parent
STOP_SECONDS = 10.0  # longer than a sidecar's drain in the demo
START_SECONDS = 30.0


class StartFailed(Exception):
    """A process ended, or did not become ready in time. The text ends with what it logged last."""


@frozen
class Place:
    """Where a process runs: what its command line begins with, which user it is there, how one connects to it."""

    prefix: tuple[str, ...] = ()
    uid: int | None = None
    connect: Callable[[str, int], Awaitable[trio.SocketStream]] = trio.open_tcp_stream


HERE = Place()


@frozen
class Result:
    """What one run of the command line gave: exit code, standard output and standard error."""

    exit: int
    out: str
    err: str

    def json(self) -> Any:
        """Standard output as JSON."""
        return json.loads(self.out)


@define
class Process:
    """A running program. `log` holds what it wrote to standard error, `output` what it wrote to standard output."""

    name: str
    popen: subprocess.Popen[bytes]
    log: Path
    output: Path
    place: Place = HERE

    def tail(self, lines: int = 20) -> str:
        """The last lines of the log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def records(self) -> list[dict[str, Any]]:
        """Standard output as JSON lines: a sidecar's access log."""
        return json_lines(self.output)

    async def stop(self, number: int = signal.SIGTERM, *, within: float = STOP_SECONDS) -> int:
        """Send the signal, wait `within` seconds, then kill. Returns the exit code."""
        if self.popen.poll() is None:
            self.popen.send_signal(number)
        with trio.move_on_after(within):
            while self.popen.poll() is None:
                await trio.sleep(0.01)
        if self.popen.poll() is None:
            self.popen.kill()
        return await trio.to_thread.run_sync(self.popen.wait)


@define
class Sidecar(Process):
    """A running sidecar. `inbound` and `outbound` are its real addresses, by port and by destination."""

    workload: str = ""
    observe: str = ""
    inbound: dict[int, str] = field(factory=dict)
    outbound: dict[str, str] = field(factory=dict)

    def url(self, destination: str) -> str:
        """Where the application reaches `destination`, such as `shop/payments:8080`."""
        return f"http://{self.outbound[destination]}"


@define
class LocalMesh:
    """The processes of one mesh. Open it with `open_local_mesh`."""

    directory: Path
    processes: list[Process] = field(factory=list)
    control_plane: Process | None = None
    address: str = ""
    observe: str = ""

    @property
    def state(self) -> Path:
        """The control plane's state directory."""
        return self.directory / "state"

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which `doorward` finds this control plane."""
        return {**os.environ, "DOORWARD_ADMIN": str(self.state / "admin.sock"), "NO_COLOR": "1"}

    def start(self, name: str, command: Sequence[str], *, pass_fds: Sequence[int] = (), place: Place = HERE) -> Process:
        """Start any program, with its output in the directory, and stop it with the mesh."""
        log, output = self.directory / f"{name}.log", self.directory / f"{name}.out"
        with log.open("ab") as err, output.open("ab") as out:
            popen = subprocess.Popen(
                [*place.prefix, *command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=self.environment,
                pass_fds=pass_fds,
                start_new_session=True,  # Ctrl-C is for the parent, which stops the children in order
            )
        process = Process(name, popen, log, output, place)
        self.processes.append(process)
        return process

    async def start_control_plane(
        self, *options: str, listen: str = "", place: Place = HERE, ready: bool = True
    ) -> Process:
        """Start the control plane on free ports and wait until it is ready, or without `ready` until it listens."""
        run_file = self.state / "run.json"
        run_file.unlink(missing_ok=True)
        command = [str(PROGRAMS / "doorward"), "control-plane", "run", "--state", str(self.state)]
        listen = self.address or listen or f"127.0.0.1:{free_port()}"  # a restarted one is found where it was
        command += ["--listen", listen, "--observe", "127.0.0.1:0", *options]
        process = self.start("control-plane", command, place=place)
        run = await _wait_for_json(process, run_file)
        self.control_plane, self.address, self.observe = process, run["listen"], run["observe"]
        if ready:
            await wait_until_ready(process, self.observe)
            bundle = await self.admin(lambda client: client.get("/v1/bundle"))
            (self.directory / "bundle.pem").write_text(bundle["pem"])
        return process

    async def admin(self, ask: Callable[[Client], dict[str, Any]]) -> dict[str, Any]:
        """What the admin API answers, asked as the command line asks it and without starting one."""

        def call() -> dict[str, Any]:
            with Client(self.state / "admin.sock") as client:
                return ask(client)

        return await trio.to_thread.run_sync(call)

    async def token(self, workload: str, *, seconds: int = 600) -> Path:
        """Create a join token that lives for `seconds`, and return the file that holds it."""
        created = await self.admin(lambda client: client.post("/v1/tokens", {"workload": workload, "ttl": seconds}))
        file = self.directory / f"{workload.replace('/', '-')}.token"
        file.touch(mode=0o600)
        file.write_text(created["token"])
        return file

    async def start_sidecar(
        self,
        workload: str,
        *options: str,
        inbound: Sequence[str] = (),
        outbound: Sequence[str] = (),
        ready: bool = True,
        place: Place = HERE,
    ) -> Sidecar:
        """Attest `workload` with a fresh token, start its sidecar and wait until it is ready."""
        token = await self.token(workload)
        name = workload.replace("/", "-") + f"-{len(self.processes)}"
        run_file = self.directory / f"{name}.run" / "run.json"
        run_file.parent.mkdir()
        if place.uid is not None:  # it reads the one and writes the other
            os.chown(token, place.uid, -1)
            os.chown(run_file.parent, place.uid, -1)
        command = [str(PROGRAMS / "doorward-sidecar"), "run", "--workload", workload]
        command += ["--control-plane", self.address, "--bundle", str(self.directory / "bundle.pem")]
        command += ["--token-file", str(token), "--observe", "127.0.0.1:0", "--run-file", str(run_file)]
        command += [word for each in inbound for word in ("--inbound", each)]
        command += [word for each in outbound for word in ("--outbound", each)]
        started = self.start(name, [*command, *options], place=place)
        run = await _wait_for_json(started, run_file)
        sidecar = Sidecar(
            name,
            started.popen,
            started.log,
            started.output,
            place,
            workload,
            run["observe"],
            {each["port"]: each["bind"] for each in run["inbound"]},
            {each["destination"]: each["bind"] for each in run["outbound"]},
        )
        self.processes[self.processes.index(started)] = sidecar  # others may have been started meanwhile
        if ready:
            await wait_until_ready(sidecar, sidecar.observe)
        return sidecar

    async def doorward(self, *arguments: str, stdin: bytes = b"") -> Result:
        """Run the command line against this control plane."""
        finished = await trio.run_process(
            [str(PROGRAMS / "doorward"), *arguments],
            stdin=stdin,
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            env=self.environment,
        )
        return Result(finished.returncode, finished.stdout.decode(), finished.stderr.decode())

    async def stop(self) -> None:
        """Stop everything, last started first, so that nobody loses what it depends on."""
        for process in reversed(self.processes):
            await process.stop()
        self.processes.clear()


@asynccontextmanager
async def open_local_mesh(directory: Path) -> AsyncIterator[LocalMesh]:
    """A mesh without processes yet; whatever is started ends with the block, also on an error or a cancellation."""
    mesh = LocalMesh(directory)
    try:
        yield mesh
    finally:
        with trio.CancelScope(shield=True):
            await mesh.stop()


def json_lines(file: Path) -> list[dict[str, Any]]:
    """The objects that a running program has written, one on each line, and nothing of a line that is half written."""
    whole, _, _ = file.read_text(errors="replace").rpartition("\n")
    return [json.loads(line) for line in whole.split("\n") if line.startswith("{")]


async def http_get(address: str, path: str, place: Place = HERE) -> tuple[int, str]:
    """One plain GET from there, on a connection of its own: status and body. Raises OSError where it is not answered.

    Somebody may be there all the same: a server that stood still for longer than its callers have lets them go.
    """
    host, _, port = address.rpartition(":")
    stream = await place.connect(host, int(port))
    try:
        async with stream:
            await stream.send_all(f"GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode())
            answer = b"".join([chunk async for chunk in stream])
    except trio.BrokenResourceError as error:
        raise ConnectionResetError(f"{address} broke the connection off") from error
    head, ended, body = answer.partition(b"\r\n\r\n")
    if not ended:
        raise ConnectionResetError(f"{address} ended the connection without an answer")
    return int(head.split()[1]), body.decode()


async def wait_for(condition: Callable[[], Any], *, seconds: float = START_SECONDS, what: str = "it") -> Any:
    """Ask `condition` every 10 ms until it gives something true; raises StartFailed after `seconds`."""
    with trio.move_on_after(seconds):
        while True:
            if found := condition():
                return found
            await trio.sleep(0.01)
    raise StartFailed(f"waited {seconds:.0f} s in vain for {what}")


async def wait_until_ready(process: Process, observe: str) -> None:
    """Return when `/ready` says 200. Raises StartFailed with the reason that it gives."""
    reason = "no answer"
    with trio.move_on_after(START_SECONDS):
        while process.popen.poll() is None:
            try:
                status, reason = await http_get(observe, "/ready", process.place)
            except OSError as error:
                status, reason = 0, str(error)
            if status == 200:
                return
            await trio.sleep(0.02)
    raise StartFailed(f"{process.name} did not become ready: {reason.strip()}\n{process.tail()}")


async def _wait_for_json(process: Process, file: Path) -> Any:
    with trio.move_on_after(START_SECONDS):
        while process.popen.poll() is None:
            if file.exists():
                return json.loads(file.read_text())
            await trio.sleep(0.01)
    raise StartFailed(f"{process.name} did not start\n{process.tail()}")
