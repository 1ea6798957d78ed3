"""The control plane as one process: everything is opened in order, started in one nursery, and closed in reverse.

    state directory -> store -> CA -> board -> listeners -> admin API, push server, cluster, observe, housekeeping

Only when all of it listens are the addresses written to `<state>/run.json` and the line `ready` logged. SIGTERM or
SIGINT ends it: links are closed, a store transaction that is under way ends as it began, and the exit code is 0.
"""

import json
import logging
import os
import resource
import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path

import trio
from attrs import asdict, frozen

from control_plane import log as process_log
from control_plane.admin.backend import Backend
from control_plane.admin.operators import OperatorsDoor
from control_plane.admin.server import serve as serve_admin
from control_plane.admin.unix_socket import SocketRefused
from control_plane.authority import AuthorityRefused
from control_plane.cluster import Cluster, open_api, own_namespace, run_cluster
from control_plane.housekeeping import expire_leases, renew_authority, tidy_store
from control_plane.injector.injection import Injection, open_injection
from control_plane.kubernetes.api import KubernetesApi
from control_plane.log import fields
from control_plane.metrics import Metrics
from control_plane.observe import serve_observe
from control_plane.opening import open_office
from control_plane.push.office import Office
from control_plane.push.server import PushServer
from control_plane.push.visit import SOFTWARE
from control_plane.settings import ControlPlaneSettings, HostPort, Limits, SettingRefused
from control_plane.state import State, StateRefused
from control_plane.store.errors import StoreError
from transport import listen

RUN_FILE = "run.json"
OTHER_FILES = 512  # the store, addresses dialled back, admin and observe connections, and what libraries open

log = logging.getLogger("doorward")


class CannotStart(Exception):
    """The control plane cannot start. The message says why and what to do."""


@frozen
class Running:
    """Where a started control plane answers."""

    listen: str
    """Where sidecars connect, `IP:PORT`."""
    observe: str | None
    admin: Path
    admin_listen: str | None
    injector_listen: str | None

    def as_plain(self) -> dict[str, str | None]:
        """As `run.json` and the log have it."""
        return {**asdict(self), "admin": str(self.admin)}


async def run(settings: ControlPlaneSettings) -> None:
    """Run until SIGTERM or SIGINT, logging JSON lines on stderr. Raises CannotStart."""
    process_log.set_up()
    _make_room_for(settings.limits)
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with _bare_nursery() as nursery:
            nursery.start_soon(serve, settings)
            async for number in signals:
                log.info("stopping", extra=fields(signal=signal.Signals(number).name))
                nursery.cancel_scope.cancel()


async def serve(
    settings: ControlPlaneSettings, *, task_status: trio.TaskStatus[Running] = trio.TASK_STATUS_IGNORED
) -> None:
    """Run until cancelled; `task_status` reports when it is ready, and where. Raises CannotStart."""
    async with AsyncExitStack() as stack:
        with _refusals():
            state = stack.enter_context(State.open(settings.state, trust_domain=settings.trust_domain))
            metrics = Metrics()
            api = open_api(settings.kubernetes, metrics)
            if api is not None:
                stack.push_async_callback(api.close)
            office = await open_office(settings, state, metrics, api, stack)
            push = await _listen("listen", settings.listen, stack)
            observe = await _listen("observe", settings.observe, stack)
            operators = await _listen("admin_listen", settings.admin_listen, stack)
            webhook = await _listen("injector_listen", settings.kubernetes.injector_listen, stack)
            injection = None
            if api is not None:
                injection = open_injection(api, own_namespace(settings.kubernetes), settings.kubernetes, office)
            backend = _backend(office, _address_of(operators), api, injection)
            nursery = await stack.enter_async_context(_bare_nursery())
            admin = settings.admin_socket or state.admin_socket
            serving = partial(serve_admin, max_connections=settings.limits.admin_connections)
            await nursery.start(serving, admin, backend, office.metrics)
        nursery.start_soon(office.board.watch, office.advance)
        nursery.start_soon(expire_leases, office)
        nursery.start_soon(renew_authority, office)
        nursery.start_soon(tidy_store, office)
        nursery.start_soon(PushServer(office).serve, push)
        cluster = None
        if api is not None:
            cluster = Cluster(api, own_namespace(settings.kubernetes), settings.kubernetes, office, backend)
            await nursery.start(run_cluster, cluster)
        if injection is not None:
            nursery.start_soon(injection.run, webhook)
        nursery.start_soon(_serve_observe, observe, office, settings, cluster)
        nursery.start_soon(OperatorsDoor(backend, office.metrics, office.limits).serve, operators)
        running = Running(
            _address(push[0]), _address_of(observe), admin, backend.operators_listen, _address_of(webhook)
        )
        with _refusals():
            stack.enter_context(_run_file(state, running))
        _say_ready(office, running)
        task_status.started(running)
        await trio.sleep_forever()


def _make_room_for(limits: Limits) -> None:
    """Allow as many open files as links are allowed; what the system does not grant is met by pausing accept."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    callers = limits.operator_connections + limits.injector_connections
    wanted = limits.links + 2 * limits.unauthenticated_links + callers + OTHER_FILES
    granted = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < granted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (granted, hard))


def _backend(
    office: Office, operators_listen: str | None, api: KubernetesApi | None, injection: Injection | None
) -> Backend:
    return Backend(
        trust_domain=office.trust_domain,
        store=office.store,
        links=office.links,
        authority=office.authority,
        advance=office.advance,
        clock=office.clock,
        lifetimes=office.lifetimes,
        operators_listen=operators_listen,
        contact=None if api is None else api.contact,
        injection=injection,
    )


async def _serve_observe(
    listeners: Sequence[trio.SocketListener], office: Office, settings: ControlPlaneSettings, cluster: Cluster | None
) -> None:
    def unready() -> str:
        if office.clock() >= office.authority.issuer_not_after:
            return "the issuing certificate has ended: run `doorward check`"
        return "" if cluster is None else cluster.unready()

    hosts, places = settings.observe_hosts, settings.limits.metrics_connections
    await serve_observe(listeners, office.metrics, unready, hosts=hosts, max_connections=places)


async def _listen(setting: str, where: HostPort | None, stack: AsyncExitStack) -> list[trio.SocketListener]:
    """Listeners that `stack` closes; none where they are off. Raises CannotStart."""
    if where is None:
        return []
    try:
        listeners = await listen(where.host, where.port)
    except OSError as error:
        raise CannotStart(f"{setting}: cannot listen on {where}: {error.strerror or error}; choose another") from error
    stack.callback(_close, listeners)
    return listeners


def _close(listeners: Sequence[trio.SocketListener]) -> None:
    for listener in listeners:
        listener.socket.close()


def _address(listener: trio.SocketListener) -> str:
    host, port, *_ = listener.socket.getsockname()
    return str(HostPort(host, port))


def _address_of(listeners: Sequence[trio.SocketListener]) -> str | None:
    return _address(listeners[0]) if listeners else None


@contextmanager
def _run_file(state: State, running: Running) -> Iterator[None]:
    """`run.json` while this runs: scripts find ephemeral ports there."""
    content = json.dumps({**running.as_plain(), "pid": os.getpid()})
    state.write(RUN_FILE, content.encode("ascii") + b"\n")
    try:
        yield
    finally:
        state.file(RUN_FILE).unlink(missing_ok=True)


def _say_ready(office: Office, running: Running) -> None:
    log.info(
        "ready",
        extra=fields(
            **running.as_plain(),
            trust_domain=str(office.trust_domain),
            number=office.board.picture.number,
            software=SOFTWARE,
            pid=os.getpid(),
        ),
    )


@contextmanager
def _refusals() -> Iterator[None]:
    """Whatever can refuse to start does so as CannotStart."""
    try:
        yield
    except (StateRefused, StoreError, AuthorityRefused, SocketRefused, SettingRefused) as error:
        raise CannotStart(str(error)) from error


@asynccontextmanager
async def _bare_nursery() -> AsyncIterator[trio.Nursery]:
    """A nursery that lets a CannotStart through as it is, without a group around it."""
    try:
        async with trio.open_nursery() as nursery:
            yield nursery
    except BaseExceptionGroup as group:
        found: BaseException | None = group.subgroup(CannotStart)
        while isinstance(found, BaseExceptionGroup):
            found = found.exceptions[0]
        raise found or group from None
