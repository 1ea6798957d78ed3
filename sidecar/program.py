"""The sidecar from start to exit: everything runs in two nurseries, and the traffic's ends before the other.

    start    listeners -> run file -> control link (attest -> certificate -> snapshot) -> ready
    drain    at SIGTERM or SIGINT: not ready -> say so to the control plane -> accept no more -> wait for what is in
             flight, at most drain_timeout -> end the rest -> exit 0; a second signal ends the rest at once

Listeners stand before the first snapshot, since their real ports have to be announced; until then they refuse.
"""

import os
import resource
import secrets
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version

import trio
from attrs import evolve

from mesh.policy import Reason
from mesh.wire import EVERY_DESTINATION, PROTOCOL_VERSION, Announce, Hello
from sidecar import log
from sidecar.access_log import AccessLog
from sidecar.channel import ControlPlane
from sidecar.config_page import describe
from sidecar.doors import Doors, bound, write_run_file
from sidecar.enrolment import Tokens
from sidecar.identity import Identity
from sidecar.inbound import serve_inbound
from sidecar.link import ControlLink
from sidecar.metrics import Metrics
from sidecar.observe import Observe, serve_observe
from sidecar.outbound import serve_outbound
from sidecar.probes import Prober
from sidecar.proxy import Proxy
from sidecar.readiness import Readiness
from sidecar.settings import EVERY_ADDRESS, Address, Settings
from sidecar.snapshots import Snapshots
from sidecar.transparent import serve_transparent_inbound, serve_transparent_outbound
from sidecar.view import Mesh
from transport import listen, listen_on_both

VERSION = version("doorward")
FILES_PER_CONNECTION = 2  # one to the caller, one onwards
FILES_ELSEWHERE = 128  # listeners, the control link, the observe address
LAST_SECONDS = 2.0  # for connections that were told to end to write their records


class CannotStart(Exception):
    """The program cannot run as it was told. The message names the setting and what to do."""


async def run(settings: Settings) -> None:
    """Run until a signal says to end, and drain. Raises CannotStart: a listener cannot stand, a file not be written."""
    settings = _prepare_process(settings)
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        sidecar = Sidecar(settings)
        async with trio.open_nursery() as background:
            background.start_soon(sidecar.proxy.log.run)
            try:
                await sidecar.run(background, signals)
            finally:
                background.cancel_scope.cancel()
    log.info("ended")


class Sidecar:
    """The parts of one running sidecar, put together. `run` is called once."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        instance = f"{settings.workload.name}-{secrets.token_hex(4)}"
        metrics = Metrics(identities=settings.limits.metric_identities)
        mesh = Mesh(settings.identity, fresh_seconds=settings.limits.link_fresh)
        access_log = AccessLog(
            instance=instance, metrics=metrics, which=settings.request_log, lines=settings.limits.log_lines
        )
        self.proxy = Proxy(settings, mesh, metrics, access_log, instance)
        self.readiness = Readiness(mesh)
        self.doors = Doors(settings.advertise)

    async def run(self, background: trio.Nursery, signals: AsyncIterator[int]) -> None:
        """Open, serve, and return when a signal came and the drain is over. `background` outlives the traffic.

        Raises CannotStart.
        """
        proxy = self.proxy
        log.info("starting", identity=proxy.mesh.own, instance=proxy.instance, version=VERSION)
        async with trio.open_nursery() as traffic:
            link = await self._open(traffic, background)
            background.start_soon(proxy.live.watch, proxy.mesh)
            background.start_soon(link.run)
            number = await anext(signals)
            log.info("draining", signal=signal.Signals(number).name, open=len(proxy.live))
            background.start_soon(self._cut_at_second_signal, signals, traffic.cancel_scope)
            background.start_soon(self._end_the_rest, traffic.cancel_scope)
            await self._drain(link)

    async def _open(self, traffic: trio.Nursery, background: trio.Nursery) -> ControlLink:
        """Open every listener, and report every one that cannot be opened. Raises CannotStart."""
        faults: list[str] = []
        for inbound in self.settings.inbound:
            with _noted(faults, f"--inbound {inbound}"):
                port = await traffic.start(serve_inbound, inbound, self.proxy)
                self.doors.inbound.append((inbound, port))
                address = bound(inbound.bind, port)
                log.info("listening", direction="inbound", address=address, application=inbound.application)
        for outbound in self.settings.outbound:
            with _noted(faults, f"--outbound {outbound}"):
                port = await traffic.start(serve_outbound, outbound, self.proxy)
                self.doors.outbound.append((outbound, port))
                address = bound(outbound.bind, port)
                log.info("listening", direction="outbound", address=address, destination=outbound.target)
        if self.settings.transparent:
            await self._open_transparent(traffic, faults)
        with _noted(faults, f"--observe {self.settings.observe}"):
            listeners = await _listen_to_observe(self.settings.observe)
            addresses = [Address(*listener.socket.getsockname()[:2]) for listener in listeners]
            self.doors.observe = Address(self.settings.observe.host, addresses[0].port)
            self.proxy.listening.extend(addresses)
            log.info("listening", direction="observe", address=self.doors.observe)
            link = self._control_link()
            background.start_soon(serve_observe, listeners, self._observe(link), self.settings.limits)
        if path := self.settings.run_file:
            with _noted(faults, f"--run-file {path}"):
                await trio.to_thread.run_sync(write_run_file, path, self.doors.addresses())
        if faults:
            raise CannotStart("\n".join(faults))
        self.readiness.listening = True
        self.readiness.look()
        return link

    async def _open_transparent(self, traffic: trio.Nursery, faults: list[str]) -> None:
        settings, doors = self.settings, self.doors
        inbound, outbound = settings.transparent_inbound_port, settings.transparent_outbound_port
        with _noted(faults, f"--transparent-inbound-port {inbound}"):
            await traffic.start(serve_transparent_inbound, self.proxy)
            log.info("listening", direction="inbound", redirected_to=inbound)
        with _noted(faults, f"--transparent-outbound-port {outbound}"):
            await traffic.start(serve_transparent_outbound, self.proxy)
            log.info("listening", direction="outbound", redirected_to=outbound, egress=settings.egress)
        doors.transparent, doors.ports = (inbound, outbound), settings.ports

    def _control_link(self) -> ControlLink:
        """The link, once the real ports are known."""
        settings, proxy = self.settings, self.proxy
        destinations = tuple(dict.fromkeys(outbound.target for outbound in settings.outbound))
        if settings.transparent:
            destinations = (EVERY_DESTINATION, *destinations)
        return ControlLink(
            ControlPlane(
                settings.control_plane,
                settings.bundle,
                settings.trust_domain,
                settings.limits.control_timeout,
                proxy.mesh.now,
                proxy.dialled,
            ),
            Hello(PROTOCOL_VERSION, f"doorward-sidecar {VERSION}", proxy.instance),
            Announce(self.doors.announced(), destinations),
            mesh=proxy.mesh,
            identity=Identity(proxy.mesh, Tokens(str(settings.token_file)), proxy.metrics),
            snapshots=Snapshots(proxy.mesh, proxy.live, proxy.metrics, settings.trust_domain),
            readiness=self.readiness,
            metrics=proxy.metrics,
            limits=settings.limits,
        )

    def _observe(self, link: ControlLink) -> Observe:
        page = partial(
            describe,
            self.settings,
            self.proxy.mesh,
            self.doors,
            link,
            self.readiness,
            instance=self.proxy.instance,
            version=VERSION,
        )
        hosts = frozenset(name.lower() for name in self.settings.observe_hosts)
        prober = Prober(self.settings.probes, self.proxy.metrics, self.proxy.dialled)
        return Observe(self.readiness, self.proxy.metrics, page, hosts, prober)

    async def _drain(self, link: ControlLink) -> None:
        """Turn callers away, the distant ones first; what is in flight ends by itself."""
        self.readiness.draining = True
        self.readiness.look()
        await link.leave()
        self.proxy.draining.set()
        self.proxy.budget.close()

    async def _end_the_rest(self, traffic: trio.CancelScope) -> None:
        """After drain_timeout end what is still in flight, with its records; soon after that whatever is left."""
        await trio.sleep(self.settings.limits.drain_timeout)
        ended = await self.proxy.live.end_all(Reason.DRAINING)
        log.warning("drain timeout", ended=ended, seconds=self.settings.limits.drain_timeout)
        await trio.sleep(LAST_SECONDS)
        traffic.cancel()

    async def _cut_at_second_signal(self, signals: AsyncIterator[int], traffic: trio.CancelScope) -> None:
        number = await anext(signals)
        log.warning("cut off by a second signal", signal=signal.Signals(number).name, open=len(self.proxy.live))
        traffic.cancel()


async def _listen_to_observe(address: Address) -> list[trio.SocketListener]:
    """Raises OSError."""
    if address.host == EVERY_ADDRESS:
        return await listen_on_both("0.0.0.0", "::", address.port)  # noqa: S104  # as it was told
    return await listen(address.host, address.port)


@contextmanager
def _noted(faults: list[str], what: str) -> Iterator[None]:
    """Add an OSError of the block to `faults`, in words."""
    try:
        yield
    except OSError as error:
        cause = os.strerror(error.errno) if error.errno else str(error)
        faults.append(f"{what}: {cause}; choose another address, port or path")


def _prepare_process(settings: Settings) -> Settings:
    """Room for the connections that the settings allow, and no core file: it would hold the private key.

    Returns the settings, with fewer connections where the system grants fewer files: whoever is let in has to find a
    file left for going on.
    """
    # One byte is no core file, and the only limit that Linux heeds where cores are piped to a program (do_coredump).
    core = 1 if resource.getrlimit(resource.RLIMIT_CORE)[1] else 0
    resource.setrlimit(resource.RLIMIT_CORE, (core, core))
    wanted = FILES_PER_CONNECTION * settings.limits.max_connections + FILES_ELSEWHERE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    if most >= wanted:
        return settings
    room = max(1, (most - min(FILES_ELSEWHERE, most // 2)) // FILES_PER_CONNECTION)
    advice = "raise ulimit -n, or lower --max-connections"
    log.warning("few open files allowed", allowed=hard, wanted=wanted, max_connections=room, advice=advice)
    return evolve(settings, limits=evolve(settings.limits, max_connections=room))
