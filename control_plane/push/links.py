"""Who is connected, what each was sent and what each says that it enforces. Bookkeeping only, no I/O.

A link is one connection of one instance (one sidecar process) of an identity. A status is true because of how it is
made: `acknowledged` moves only to a number that was sent on that very link, and a new link of the same instance takes
the place of the old one, so that no process is counted twice.
"""

from collections import deque
from collections.abc import Callable
from datetime import datetime

from attrs import Factory, define, field, frozen

from certs.spiffe import SpiffeId
from certs.verify import Peer
from mesh.wire import Ack, Announce, Listener, Nack

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


@define(eq=False)
class Link:
    """One live, authenticated link. `end(reason)` closes it from outside; the link's own task does the closing."""

    peer: Peer
    instance: str
    address: str
    version: str
    connected_since: datetime
    end: Callable[[str], None]
    announced: Announce | None = None
    acknowledged: int | None = None
    epoch: str | None = None
    last_nack: Nack | None = None
    sent_number: int | None = None
    sent_hash: str = ""
    _sent: deque[tuple[str, int]] = field(factory=lambda: deque(maxlen=MAX_UNACKNOWLEDGED))

    @property
    def identity(self) -> SpiffeId:
        """Whose link this is: what its certificate says, never a field of a message (law 2)."""
        return self.peer.id

    def was_sent(self, epoch: str, number: int, content_hash: str) -> None:
        """Remember a snapshot before its first byte goes out."""
        self.sent_number, self.sent_hash = number, content_hash
        self._sent.append((epoch, number))

    def acknowledge(self, ack: Ack) -> bool:
        """Note what is enforced there now. False for a snapshot that this link was not sent: it proves nothing."""
        said = (ack.epoch, ack.number)
        if said not in self._sent:
            return False
        while self._sent[0] != said:
            self._sent.popleft()
        self.epoch, self.acknowledged, self.last_nack = ack.epoch, ack.number, None
        return True

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
        )


@define(eq=False)
class Links:
    """Every live link, at most one per instance."""

    _links: dict[tuple[SpiffeId, str], Link] = Factory(dict)

    def __len__(self) -> int:
        return len(self._links)

    def add(self, link: Link) -> None:
        """Register `link`; an older one of the same instance is ended, as its process has come back."""
        older = self._links.get((link.identity, link.instance))
        self._links[link.identity, link.instance] = link
        if older is not None:
            older.end("superseded by a newer link of the same instance")

    def remove(self, link: Link) -> None:
        """Forget `link`, unless a newer one already took its place."""
        if self._links.get((link.identity, link.instance)) is link:
            del self._links[link.identity, link.instance]

    def live(self) -> tuple[Link, ...]:
        """Every link, oldest first."""
        return tuple(self._links.values())

    def status(self) -> tuple[LinkStatus, ...]:
        """What is connected now, by identity and then instance."""
        return tuple(sorted((link.status() for link in self.live()), key=lambda each: (each.identity, each.instance)))
