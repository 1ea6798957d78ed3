"""The control link: one task that keeps this sidecar known, certified and up to date for as long as it runs.

A session is one connection, and goes one of two ways:

    without a usable certificate    Hello, CertificateRequest with the token -> Certificate; a new session shows it
    with one                        Hello, Announce, then sidecar.session until renewal (and a new session) or its end

Whatever fails, the last certificate and the last snapshot stay in force and traffic goes on; the next session comes
after a jittered, doubling wait.
"""

from typing import Protocol

import trio

from certs.bundle import TrustBundle
from certs.svid import Svid
from mesh.wire import PROTOCOL_VERSION, Announce, Certificate, Hello, Message, Nack, Ping, Pong, Unknown
from sidecar import log
from sidecar.channel import Channel, LinkFailed
from sidecar.enrolment import IdentityRefused, TokenUnreadable
from sidecar.identity import Identity
from sidecar.metrics import Metrics
from sidecar.readiness import Readiness
from sidecar.session import Session
from sidecar.settings import Limits
from sidecar.snapshots import Snapshots
from sidecar.view import Mesh
from transport.backoff import Backoff


class Connects(Protocol):
    """How a session comes by its verified channel; sidecar.channel.ControlPlane is the real one."""

    async def connect(self, svid: Svid | None, learnt: TrustBundle | None) -> Channel:
        """A channel whose other end is the control plane. Raises LinkFailed."""
        ...


class ControlLink:
    """Runs session after session. `hello` and `announce` are said on each of them."""

    def __init__(
        self,
        control_plane: Connects,
        hello: Hello,
        announce: Announce,
        *,
        mesh: Mesh,
        identity: Identity,
        snapshots: Snapshots,
        readiness: Readiness,
        metrics: Metrics,
        limits: Limits,
    ) -> None:
        self._control_plane = control_plane
        self._hello = hello
        self._announce = announce
        self._mesh = mesh
        self._identity = identity
        self._snapshots = snapshots
        self._readiness = readiness
        self._metrics = metrics
        self._limits = limits
        self._backoff = Backoff(limits.backoff_initial, limits.backoff_max)
        self._session: Session | None = None

    @property
    def up(self) -> bool:
        """Whether a session with a certificate stands now."""
        return self._session is not None

    async def run(self) -> None:
        """Sessions until cancelled. A failed one is logged and counted, and the next follows after a wait."""
        while True:
            try:
                await self._one_session()
            except LinkFailed as failure:
                await self._after(failure.code, str(failure))
            except Exception as error:  # noqa: BLE001  # a fault of ours here must not end the traffic
                self._metrics.unexpected("link")
                log.error("control link failed in a way that no code foresaw", exception=error)
                await self._after("internal_error", f"the control link failed: {type(error).__name__}")

    async def _after(self, code: str, problem: str) -> None:
        """Say what went wrong with a session, and wait."""
        self._identity.session_failed(code)
        self._metrics.control_link(code)
        self._readiness.link_problem = problem
        self._readiness.look()
        wait = self._backoff.next()
        log.warning("control link failed", code=code, problem=problem, retry_in=round(wait, 2))
        await trio.sleep(wait)

    async def leave(self) -> None:
        """Tell the control plane that nothing listens here any more, where it can be told within a second."""
        self._announce = Announce((), self._announce.destinations)
        if self._session is not None:
            try:
                with trio.move_on_after(1):
                    await self._session.send(self._announce)
            except LinkFailed as failure:
                log.info("the end could not be announced", problem=str(failure))

    async def _one_session(self) -> None:
        svid = self._identity.usable()
        channel = await self._control_plane.connect(svid, self._identity.roots())
        try:
            await self._greet(channel, svid)
            if svid is None:
                await self._enrol(channel)
            else:
                await self._serve(channel, svid)
        finally:
            with trio.move_on_after(1, shield=True):
                await channel.aclose()

    async def _greet(self, channel: Channel, svid: Svid | None) -> None:
        try:
            await channel.send(self._hello, self._limits.control_timeout)
            answer = await self._answer(channel)
        except LinkFailed as failure:
            if svid is not None and failure.code == "lost":  # a reset overtakes the alert that says so
                raise LinkFailed("refused", f"{failure}, before a word: the certificate may be refused") from None
            raise
        match answer:
            case Hello(version=version, software=software):
                log.debug("control plane greets", version=version, software=software)
                if version != PROTOCOL_VERSION:
                    log.warning("control plane speaks another protocol version", own=PROTOCOL_VERSION, other=version)
            case Nack(code=code, message=message):
                raise LinkFailed(code, f"the control plane refused the link: {message}")
            case other:
                raise LinkFailed("malformed", f"the control plane began with {type(other).__name__}, not with Hello")

    async def _enrol(self, channel: Channel) -> None:
        try:
            request = await self._identity.first_request()
        except TokenUnreadable as error:
            raise LinkFailed("token_unreadable", str(error)) from None
        await channel.send(request, self._limits.control_timeout)
        match await self._answer(channel):
            case Certificate() as answer:
                try:
                    self._identity.take(answer, channel.trusted)
                except IdentityRefused as refusal:
                    raise LinkFailed("certificate_refused", str(refusal)) from None
            case Nack(code=code, message=message):
                raise LinkFailed(code, self._identity.refused(request, code, message))
            case other:
                raise LinkFailed("malformed", f"the control plane answered {type(other).__name__} to a request")

    async def _answer(self, channel: Channel) -> Message:
        """The next message that this version knows, within the time for an answer; Pings are answered meanwhile."""
        with trio.move_on_after(self._limits.control_timeout):
            while True:
                message = await channel.receive()
                self._mesh.heard()
                if isinstance(message, Ping):
                    await channel.send(Pong(message.number), self._limits.control_timeout)
                elif not isinstance(message, Unknown | Pong):
                    return message
        raise LinkFailed("silent", f"the control plane did not answer within {self._limits.control_timeout:g} s")

    async def _serve(self, channel: Channel, svid: Svid) -> None:
        session = Session(
            channel,
            mesh=self._mesh,
            identity=self._identity,
            snapshots=self._snapshots,
            readiness=self._readiness,
            limits=self._limits,
        )
        try:
            await session.send(self._announce)
            self._session = session
            self._stands(svid)
            await session.run()
        finally:
            self._session = None
            self._metrics.control_link_up(False)
            if session.worked:
                self._backoff.reset()

    def _stands(self, svid: Svid) -> None:
        self._metrics.control_link("connected")
        self._metrics.control_link_up(True)
        self._readiness.link_problem = ""
        log.info("control link stands", identity=svid.id)
