"""Who is connected, what each was sent and what each says that it enforces. Bookkeeping only.

A link is one connection of one instance (one sidecar process) of an identity. A status is true because of how it is
made: `acknowledged` moves only to a number that was sent on that very link, and a new link of the same instance takes
the place of the old one, so that no process is counted twice.
"""

from collections import deque
from datetime import datetime

import trio
from attrs import Factory, define, field, frozen

from certs.spiffe import SpiffeId
from certs.verify import Peer
from control_plane.advance import Advance
from mesh.wire import Ack, Announce, Listener, Nack, Snapshot

MAX_UNACKNOWLEDGED = 256
"""Snapshots sent and not acknowledged that are remembered; an Ack of an older one counts for nothing."""


@frozen
class LinkStatus:
    """One connected sidecar, as `doorward sidecars` shows it. Times are aware UTC."""

    identity: str
    instance: str
    address: str
    version: str
    acknowledged: int | None
    """The number of the newest snapshot that it enforces; None before the first."""
    epoch: str | None
    certificate_not_after: datetime
    connected_since: datetime
    listeners: tuple[Listener, ...]
    destinations: tuple[str, ...]
    last_nack: Nack | None
    """Why it refused a snapshot, where it did so after its last acknowledgement."""
    unsent: str = ""
    """Why the newest snapshot could not be sent to it; "" where nothing is in the way."""


@define(eq=False)
class Link:
    """One live, authenticated link. Its own task works within `scope`; `end` ends it from outside."""

    peer: Peer
    instance: str
    address: str
    version: str
    connected_since: datetime
    announced: Announce | None = None
    acknowledged: int | None = None
    epoch: str | None = None
    last_nack: Nack | None = None
    sent_number: int | None = None
    sent_hash: str = ""
    unsent: str = ""
    """Why the newest snapshot could not be sent; "" where nothing is in the way."""
    wanted: Advance = Factory(Advance)
    """Announced whenever there may be something to send."""
    announcements: Advance = Factory(Advance)
    """Announced whenever `announced` was replaced."""
    scope: trio.CancelScope = Factory(trio.CancelScope)
    ended_because: str = ""
    _sent: deque[tuple[str, int, float]] = field(factory=lambda: deque(maxlen=MAX_UNACKNOWLEDGED))

    @property
    def identity(self) -> SpiffeId:
        """Whose link this is: what its certificate says, never a field of a message (law 2)."""
        return self.peer.id

    @property
    def answered(self) -> bool:
        """Whether it has enforced or refused a snapshot on this link: if it holds one at all, it does by now."""
        return self.acknowledged is not None or self.last_nack is not None

    def end(self, reason: str) -> None:
        """End this link; `reason` is for its log line."""
        self.ended_because = reason
        self.scope.cancel()

    def was_sent(self, snapshot: Snapshot, at: float) -> None:
        """Remember a snapshot before its first byte goes out. `at` is any clock's seconds."""
        self.sent_number, self.sent_hash = snapshot.number, snapshot.hash
        self._sent.append((snapshot.epoch, snapshot.number, at))

    def acknowledge(self, ack: Ack) -> float | None:
        """Note what is enforced there now, and return when it was sent.

        None for a snapshot that this link was not sent: it proves nothing.
        """
        if all((ack.epoch, ack.number) != (epoch, number) for epoch, number, _ in self._sent):
            return None
        while self._sent[0][:2] != (ack.epoch, ack.number):
            self._sent.popleft()
        self.epoch, self.acknowledged, self.last_nack = ack.epoch, ack.number, None
        return self._sent[0][2]

    def status(self) -> LinkStatus:
        """This link as a value."""
        return LinkStatus(
            identity=str(self.identity),
            instance=self.instance,
            address=self.address,
            version=self.version,
            acknowledged=self.acknowledged,
            epoch=self.epoch,
            certificate_not_after=self.peer.not_after,
            connected_since=self.connected_since,
            listeners=self.announced.listeners if self.announced else (),
            destinations=self.announced.destinations if self.announced else (),
            last_nack=self.last_nack,
            unsent=self.unsent,
        )


@define(eq=False)
class Links:
    """Every live link, at most one per instance."""

    moved: Advance = Factory(Advance)
    """Announced whenever a link came, went or acknowledged a snapshot."""
    _links: dict[tuple[SpiffeId, str], Link] = Factory(dict)

    def __len__(self) -> int:
        return len(self._links)

    def add(self, link: Link) -> None:
        """Register `link`; an older one of the same instance is ended, as its process has come back."""
        older = self._links.get((link.identity, link.instance))
        self._links[link.identity, link.instance] = link
        self.moved.announce()
        if older is not None:
            older.end("superseded by a newer link of the same instance")

    def remove(self, link: Link) -> None:
        """Forget `link`, unless a newer one already took its place."""
        if self._links.get((link.identity, link.instance)) is link:
            del self._links[link.identity, link.instance]
            self.moved.announce()

    def live(self) -> tuple[Link, ...]:
        """Every link, oldest first."""
        return tuple(self._links.values())

    def status(self) -> tuple[LinkStatus, ...]:
        """What is connected now, by identity and then instance."""
        return tuple(sorted((link.status() for link in self.live()), key=lambda each: (each.identity, each.instance)))
