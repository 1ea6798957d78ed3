"""A session with a certificate: announce, then enforce every snapshot that comes, until renewal or the link's end.

Four tasks share the channel, and the first that ends, ends the session:

    listen        takes every message and hands it to who waits for it; answers Pings
    apply         enforces the newest snapshot and acknowledges it; apart, so that a large one never silences the link
    keep alive    asks for a sign of life after a silence, and misses it
    renew         sleeps to half of the certificate's life and asks for the next; its success ends the session
"""

from collections.abc import Awaitable, Callable
from typing import Final

import trio

from mesh.wire import Certificate, Message, Nack, Ping, Pong, Snapshot, Unknown
from sidecar import log
from sidecar.channel import Channel, LinkFailed
from sidecar.enrolment import IdentityRefused, TokenUnreadable
from sidecar.identity import Identity
from sidecar.readiness import Readiness
from sidecar.settings import Limits
from sidecar.snapshots import Snapshots
from sidecar.view import Mesh
from transport.backoff import Backoff

LONGEST_SLEEP: Final = 30.0  # seconds: the wall clock may jump, trio's clock does not, and renewal goes by the wall's

Answer = Certificate | Nack


class Session:
    """One verified channel on which this sidecar has shown its certificate. `run` is called once."""

    def __init__(
        self,
        channel: Channel,
        *,
        mesh: Mesh,
        identity: Identity,
        snapshots: Snapshots,
        readiness: Readiness,
        limits: Limits,
    ) -> None:
        self._channel = channel
        self._mesh = mesh
        self._identity = identity
        self._snapshots = snapshots
        self._readiness = readiness
        self._limits = limits
        self._asked = False
        self._answers, self._answered = trio.open_memory_channel[Answer](1)
        self._newest: Snapshot | None = None
        self._some_snapshot = trio.Event()
        self.worked = False  # a snapshot was enforced: the next failure is the first one again

    async def run(self) -> None:
        """Returns when a new certificate is in force and should be shown. Raises LinkFailed."""
        await _until_one_ends(self._listen, self._apply, self._keep_alive, self._renew)

    async def send(self, message: Message) -> None:
        """Send within the time for an answer. Raises LinkFailed."""
        await self._channel.send(message, self._limits.control_timeout)

    async def _listen(self) -> None:
        while True:
            message = await self._channel.receive()
            self._mesh.heard()
            match message:
                case Snapshot():
                    self._newest = message
                    self._some_snapshot.set()
                case Certificate() | Nack(about="CertificateRequest"):
                    self._hand_over(message)
                case Nack(about="Link", code=code, message=text):
                    raise LinkFailed(code, f"the control plane ends the link: {text}")
                case Nack(about=about, code=code, message=text):
                    log.warning("control plane refused a message", about=about, code=code, problem=text)
                case Ping(number):
                    await self.send(Pong(number))
                case Unknown(kind):
                    log.info("skipped a message of a newer control plane", type=kind)

    def _hand_over(self, answer: Answer) -> None:
        if not self._asked:
            raise LinkFailed("malformed", "the control plane answered a request that was not made")
        self._asked = False
        self._answers.send_nowait(answer)

    async def _apply(self) -> None:
        while True:
            await self._some_snapshot.wait()
            snapshot, self._newest, self._some_snapshot = self._newest, None, trio.Event()
            assert snapshot is not None
            answer = await self._snapshots.apply(snapshot)
            self.worked = self.worked or not isinstance(answer, Nack)
            self._readiness.look()
            await self.send(answer)

    async def _keep_alive(self) -> None:
        number = 0
        while True:
            await trio.sleep_until(self._channel.heard + self._limits.ping_interval)
            asked = trio.current_time()
            if asked < self._channel.heard + self._limits.ping_interval:
                continue
            number += 1
            await self.send(Ping(number))
            await trio.sleep(self._limits.control_timeout)
            if self._channel.heard < asked:
                patience = self._limits.ping_interval + self._limits.control_timeout
                raise LinkFailed("silent", f"the control plane gave no sign of life for {patience:g} s")

    async def _renew(self) -> None:
        """The old certificate serves until a new one is there; what fails is tried again after a growing wait."""
        backoff = Backoff(self._limits.backoff_initial, self._limits.backoff_max)
        await self._sleep_until_due()
        while problem := await self._renew_once():
            wait = backoff.next()
            log.warning("renewal failed, the certificate stays in use", problem=problem, retry_in=round(wait, 2))
            await trio.sleep(wait)

    async def _sleep_until_due(self) -> None:
        while True:
            left = (self._identity.due - self._mesh.now()).total_seconds()
            if left <= 0:
                return
            await trio.sleep(min(left, LONGEST_SLEEP))

    async def _renew_once(self) -> str:
        """Ask once: "" where a new certificate is in force now, else what stands in the way. Raises LinkFailed."""
        try:
            request = await self._identity.renewal_request()
        except TokenUnreadable as error:
            return str(error)
        self._asked = True
        await self.send(request)
        with trio.move_on_after(self._limits.control_timeout):
            answer = await self._answered.receive()
            if isinstance(answer, Nack):
                return self._identity.refused(request, answer.code, answer.message)
            try:
                self._identity.take(answer, self._channel.trusted)
            except IdentityRefused as refusal:
                return str(refusal)
            return ""
        raise LinkFailed("silent", f"the control plane answered no renewal within {self._limits.control_timeout:g} s")


async def _until_one_ends(*tasks: Callable[[], Awaitable[None]]) -> None:
    """Run the tasks until the first returns or raises LinkFailed; the error goes on bare, without a group around."""
    failure: LinkFailed | None = None

    async def run(task: Callable[[], Awaitable[None]], scope: trio.CancelScope) -> None:
        nonlocal failure
        try:
            await task()
        except LinkFailed as error:
            failure = failure or error
        scope.cancel()

    async with trio.open_nursery() as nursery:
        for task in tasks:
            nursery.start_soon(run, task, nursery.cancel_scope)
    if failure:
        raise failure
