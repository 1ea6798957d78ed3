"""One authenticated link, from its Hello to its end: what the sidecar asks is answered, what it must know is pushed.

Three tasks share the link: this one listens, and pings a silent peer; one sends a snapshot whenever there is a new
one; one keeps the leases of what was announced. Before anything is answered or pushed the link's certificate is asked
again whether it is still good (law 2): a link does not outlive its certificate, a ban or its root.
"""

import logging
from collections import deque
from collections.abc import Awaitable, Callable

import trio

from control_plane.log import fields
from control_plane.push.attest import Attestor
from control_plane.push.board import ViewTooLarge
from control_plane.push.conversation import Conversation
from control_plane.push.ending import Ending, endings
from control_plane.push.links import Link
from control_plane.push.office import Office
from control_plane.push.registry import AnnounceRefused, Registration, check_destinations
from mesh.wire import (
    Ack,
    Announce,
    Certificate,
    CertificateRequest,
    Hello,
    Message,
    Nack,
    Ping,
    Pong,
    Snapshot,
    Unknown,
)

ANNOUNCEMENTS_PER_MINUTE = 60  # of one link; a sidecar says one when it connects and one when it leaves
UNKNOWN_TYPES_LOGGED = 8  # per link; all are counted

log = logging.getLogger("doorward.push")


class Session:
    """Holds one link. `hold` returns how it ended; the caller says that to the peer, logs it and closes the stream."""

    def __init__(self, office: Office, attestor: Attestor, link: Link, conversation: Conversation) -> None:
        self._office = office
        self._attestor = attestor
        self._link = link
        self._conversation = conversation
        self._registration = Registration(office, link)
        self._announced_at: deque[float] = deque(maxlen=ANNOUNCEMENTS_PER_MINUTE)
        self._unknown: set[str] = set()
        self._pings = 0

    async def hold(self) -> Ending:
        """Serve the link until it ends. Never raises but for what nobody foresaw."""
        ending: Ending | None = None

        async def until_ended(task: Callable[[], Awaitable[None]]) -> None:
            nonlocal ending
            try:
                with endings():
                    await task()
            except Ending as ended:
                ending = ending or ended
                self._link.scope.cancel()

        with self._link.scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(until_ended, self._listen)
                nursery.start_soon(until_ended, self._push)
                nursery.start_soon(until_ended, self._keep_registered)
        return ending or Ending("superseded", self._link.ended_because)

    async def _listen(self) -> None:
        limits = self._office.limits
        heard = trio.current_time()
        while True:
            message: Message | Unknown | None = None
            with trio.move_on_after(limits.ping_interval) as patience:
                message = await self._conversation.receive()
            self._require_standing()
            if patience.cancelled_caught:
                if trio.current_time() - heard >= limits.silence_timeout:
                    raise Ending("silent", f"nothing was heard for {limits.silence_timeout:g} s")
                self._pings += 1
                await self._conversation.send(Ping(self._pings))
                continue
            if message is None:
                raise Ending("closed", "the sidecar ended the link")
            heard = trio.current_time()
            self._office.metrics.messages.labels(type(message).__name__).inc()
            await self._take(message)

    async def _take(self, message: Message | Unknown) -> None:
        match message:
            case Ping(number):
                await self._conversation.send(Pong(number))
            case Pong():
                pass
            case Ack() | Nack():
                self._answered(message)
            case CertificateRequest():
                answer = await self._attestor.answer(message, self._link.peer, self._link.address)
                await self._conversation.send(answer)
            case Announce():
                await self._announce(message)
            case Unknown(kind):
                self._skip(kind)
            case Hello() | Certificate() | Snapshot():
                kind = type(message).__name__
                raise Ending("protocol", f"unexpected {kind}", Nack(kind, "unexpected", f"{kind} is not expected here"))

    async def _announce(self, announce: Announce) -> None:
        """The new destinations count at once; the listeners once they have proved to be the sidecar's own."""
        try:
            self._require_patience()
            check_destinations(announce)
        except AnnounceRefused as error:
            self._office.metrics.requests_refused.labels("Announce", error.code).inc()
            log.warning("announcement refused", extra=self._fields(code=error.code, reason=str(error)))
            await self._conversation.send(Nack("Announce", error.code, str(error)))
            return
        self._link.announced = announce
        self._link.wanted.announce()
        if announce.listeners:
            self._link.announcements.announce()
        else:
            await self._registration.renew()  # here and now: a sidecar says this as its last word

    def _require_patience(self) -> None:
        """Every change of the registry is stored, audited and pushed: one link cannot flap at will."""
        now, recent = trio.current_time(), self._announced_at
        if len(recent) == ANNOUNCEMENTS_PER_MINUTE and now - recent[0] < 60:
            raise AnnounceRefused("too_many_announcements", f"more than {ANNOUNCEMENTS_PER_MINUTE} in a minute")
        recent.append(now)

    def _answered(self, answer: Ack | Nack) -> None:
        first = not self._link.answered
        if isinstance(answer, Ack):
            self._acknowledge(answer)
        else:
            self._refused(answer)
        if first and self._link.answered:
            self._link.announcements.announce()  # from now on it can prove its addresses

    def _acknowledge(self, ack: Ack) -> None:
        sent_at = self._link.acknowledge(ack)
        if sent_at is None:
            log.warning("acknowledged what was not sent: it counts for nothing", extra=self._fields(number=ack.number))
            return
        self._office.links.moved.announce()
        self._office.metrics.enforced_after.observe(trio.current_time() - sent_at)

    def _refused(self, nack: Nack) -> None:
        self._link.last_nack = nack
        self._office.metrics.snapshot_refusals.inc()
        log.error(
            "a sidecar refuses what it was sent and keeps what it had",
            extra=self._fields(about=nack.about[:80], code=nack.code[:80], reason=nack.message[:1000]),
        )

    def _skip(self, kind: str) -> None:
        if kind not in self._unknown and len(self._unknown) < UNKNOWN_TYPES_LOGGED:
            self._unknown.add(kind)
            log.warning("skipped a message of unknown type", extra=self._fields(type=kind))

    async def _push(self) -> None:
        """Send the newest snapshot whenever it says something new, from the first Announce on."""
        wanted = self._link.wanted
        while True:
            seen = wanted.count
            self._require_standing()
            if self._link.announced is not None and self._office.board.complete:
                await self._send_snapshot()
            await wanted.wait(seen)

    async def _send_snapshot(self) -> None:
        """Sent where the content is new, or a policy revision is later than what was sent (to be acknowledged)."""
        link, board = self._link, self._office.board
        try:
            snapshot, frame = await board.view(link)
        except ViewTooLarge as error:
            link.unsent = str(error)
            log.exception("a snapshot is too large to be sent", extra=self._fields(reason=str(error)))
            self._office.metrics.failures.labels("snapshot").inc()
            return
        link.unsent = ""
        news = link.sent_number is None or board.picture.policy_number > link.sent_number
        if snapshot.hash == link.sent_hash and not news:
            return
        link.was_sent(snapshot, trio.current_time())
        await self._conversation.send_frame(frame)
        self._office.metrics.snapshots.inc()

    async def _keep_registered(self) -> None:
        """Register what was announced, at once and again for as long as the link lives."""
        announcements = self._link.announcements
        told: Nack | None = None
        while True:
            seen = announcements.count
            if self._link.announced is not None:
                nack = await self._registration.renew()
                if nack is not None and nack != told:
                    await self._conversation.send(nack)
                told = nack
            with trio.move_on_after(self._office.limits.lease_renewal):
                await announcements.wait(seen)
                told = None

    def _require_standing(self) -> None:
        objection = self._office.objection(self._link.peer)
        if objection is not None:
            raise Ending(objection.code, objection.message, objection)

    def _fields(self, **values: object) -> dict[str, dict[str, object]]:
        link = self._link
        return fields(identity=str(link.identity), instance=link.instance, address=link.address, **values)
