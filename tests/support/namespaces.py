"""Network namespaces of a test: pods with addresses of their own on one bridge, with no way out of it.

    async with open_network() as network:
        client, server = await network.pod("client"), await network.pod("server")
        listener = await server.listen(8080)                        # a socket of the test itself, inside the pod
        stream = await client.connect(server.ipv4, 8080, uid=1000)  # the same, opened by that user
        answer = await client.run(["curl", …], uid=1000)            # a program inside the pod
        await mesh.start_sidecar("shop/web", place=server.place(uid=1337))

A namespace has no name: this process holds it by a descriptor. So nothing stays behind, however the process ends.
"""

import ctypes
import os
import signal
import socket
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

import trio
from attrs import define, field

from examples.demo.local_mesh import Place, Result
from tests.support.stock import missing, program

T = TypeVar("T")

CLONE_NEWNET = 0x40000000
ROOTLESS = "network namespaces need root: sudo make test, or .ci/run"
RUN_SECONDS = 30.0

_libc = ctypes.CDLL(None, use_errno=True)  # os.unshare and os.setns came with Python 3.12

# 0: addresses are usable at once, without waiting for a neighbour that has the same.
_ACCEPT_DAD = Path("/proc/sys/net/ipv6/conf/default/accept_dad")


def require_namespaces() -> None:
    """Skip the test where it cannot have network namespaces, with one reason; in CI it fails."""
    if os.geteuid() != 0:
        missing(ROOTLESS)
    for name in ("ip", "iptables", "ip6tables", "nsenter", "setpriv"):
        program(name)
    try:
        os.close(_in_thread(_unshare))
    except PermissionError:
        missing(f"{ROOTLESS} (this root lacks CAP_SYS_ADMIN)")


@define
class Pod:
    """One network namespace with `lo` and `eth0`, an address of each IP version, and a default route."""

    name: str
    descriptor: int
    ipv4: str = ""
    ipv6: str = ""

    @property
    def path(self) -> str:
        """The namespace, as nsenter and ip take it."""
        return f"/proc/{os.getpid()}/fd/{self.descriptor}"

    def command(self, argv: Sequence[str], *, uid: int | None = None) -> list[str]:
        """The command line that runs `argv` in here, as that user where one is given.

        Such a user may read every file, since a checkout and a test's directory may be root's alone, but owns none.
        """
        prefix = [program("nsenter"), f"--net={self.path}", "--"]
        if uid is not None:
            prefix += [program("setpriv"), f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
            prefix += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search", "--"]
        return [*prefix, *argv]

    async def run(
        self, argv: Sequence[str], *, uid: int | None = None, stdin: bytes = b"", seconds: float = RUN_SECONDS
    ) -> Result:
        """Run a program to its end and return what it gave, whatever its exit code. Raises trio.TooSlowError."""
        with trio.fail_after(seconds):
            finished = await trio.run_process(
                self.command(argv, uid=uid), stdin=stdin, capture_stdout=True, capture_stderr=True, check=False
            )
        return Result(finished.returncode, finished.stdout.decode(), finished.stderr.decode())

    async def must(self, *argv: str, stdin: bytes = b"") -> str:
        """Run a program that has to succeed. Returns its standard output; raises AssertionError with its errors."""
        result = await self.run(argv, stdin=stdin)
        assert result.exit == 0, f"{' '.join(argv)}: {result.err}"
        return result.out

    def inside(self, function: Callable[[], T], *, uid: int | None = None) -> T:
        """What `function` returns in a thread of its own that is in here; sockets that it makes stay in here.

        With `uid` the kernel takes that user for their owner. Everything else waits for it meanwhile.
        """

        def enter() -> T:
            _checked(_libc.setns(self.descriptor, CLONE_NEWNET))
            if uid is not None:
                _libc.setfsuid(uid)
            return function()

        return _in_thread(enter)

    def socket(self, family: int = socket.AF_INET, *, uid: int | None = None) -> socket.socket:
        """A new TCP socket in here."""
        return self.inside(partial(socket.socket, family, socket.SOCK_STREAM), uid=uid)

    async def connect(self, host: str, port: int, *, uid: int | None = None) -> trio.SocketStream:
        """Connect from in here to an IP address. Raises OSError."""
        sock = trio.socket.from_stdlib_socket(self.socket(_family(host), uid=uid))
        try:
            await sock.connect((host, port))
        except BaseException:
            sock.close()
            raise
        return trio.SocketStream(sock)

    async def listen(self, port: int, host: str = "::") -> trio.SocketListener:
        """Listen in here; `::` is every address of both IP versions."""
        sock = self.socket(_family(host))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if host == "::":
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind((host, port))
        sock.listen()
        return trio.SocketListener(trio.socket.from_stdlib_socket(sock))

    def place(self, *, uid: int | None = None) -> Place:
        """This pod as LocalMesh takes it, for a control plane or a sidecar."""
        return Place(tuple(self.command([], uid=uid)), uid, self.connect)


@define
class Network:
    """Pods on one bridge: 10.77.0.0/24 and fd00:77::/64. The bridge is the default gateway, and forwards nothing."""

    hub: Pod
    pods: list[Pod] = field(factory=list)

    async def pod(self, name: str) -> Pod:
        """A new pod."""
        number = len(self.pods) + 2
        pod = Pod(name, _in_thread(_unshare), f"10.77.0.{number}", f"fd00:77::{number}")
        self.pods.append(pod)
        pod.inside(partial(_ACCEPT_DAD.write_text, "0"))
        await _ip(self.hub, f"link add pod{number} type veth peer name eth0 netns {pod.path}")
        await _ip(self.hub, f"link set pod{number} master bridge up")
        await _ip(
            pod,
            "link set lo up",
            "link set eth0 up",
            f"address add {pod.ipv4}/24 dev eth0",
            f"address add {pod.ipv6}/64 dev eth0 nodad",
            "route add default via 10.77.0.1",
            "route add ::/0 via fd00:77::1",
        )
        return pod

    def close(self) -> None:
        """End it, and kill every process that is still in one of its pods."""
        for pod in [*self.pods, self.hub]:
            for process in processes_in(os.fstat(pod.descriptor).st_ino):
                with suppress(ProcessLookupError):  # it ended meanwhile
                    os.kill(process, signal.SIGKILL)
            os.close(pod.descriptor)


async def new_network() -> Network:
    """A network without pods yet, which the caller closes."""
    require_namespaces()
    network = Network(Pod("hub", _in_thread(_unshare)))
    network.hub.inside(partial(_ACCEPT_DAD.write_text, "0"))
    await _ip(
        network.hub,
        "link set lo up",
        "link add bridge type bridge mcast_snooping 0",
        "link set bridge up",
        "address add 10.77.0.1/24 dev bridge",
        "address add fd00:77::1/64 dev bridge nodad",
    )
    return network


@asynccontextmanager
async def open_network() -> AsyncIterator[Network]:
    """A network without pods yet, closed at the end of the block."""
    network = await new_network()
    try:
        yield network
    finally:
        network.close()


def processes_in(namespace: int) -> list[int]:
    """The processes whose network namespace has that inode number."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            inode = (entry / "ns" / "net").stat().st_ino
        except OSError:  # it ended meanwhile
            continue
        if inode == namespace:
            found.append(int(entry.name))
    return found


async def _ip(pod: Pod, *lines: str) -> None:
    await pod.must("ip", "-batch", "-", stdin="\n".join(lines).encode())


def _family(host: str) -> int:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _unshare() -> int:
    """A descriptor of a new network namespace, which this thread is then in."""
    _checked(_libc.unshare(CLONE_NEWNET))
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _checked(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _in_thread(function: Callable[[], T]) -> T:
    """What `function` returns, or raises, in a thread that ends with it: no other code runs in its namespace."""
    outcome: list[T] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(function())
        except BaseException as error:  # noqa: BLE001  # it is raised in the caller's thread
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if raised:
        raise raised[0]
    return outcome[0]
