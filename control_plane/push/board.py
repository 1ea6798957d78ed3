"""The store's newest state, read once for all links: a notice board that wakes them when something new hangs there.

Whoever changes the store announces it; the board reads the whole in one transaction, indexes it with what the cluster's
own objects say, where there is a cluster, and wakes each link, which then computes what concerns it. Replicas of one
workload want the same view, so views are kept, encoded, until the next state. While the store cannot be read the last
state stays up.
"""

import logging
import operator

import trio
from attrs import Factory, define, field

from certs.spiffe import WorkloadName
from control_plane.advance import Advance
from control_plane.authority import IssuingAuthority
from control_plane.log import fields
from control_plane.metrics import Metrics
from control_plane.push.links import Link, Links
from control_plane.push.platform import Platform
from control_plane.push.views import Picture, view_for
from control_plane.store.errors import StoreError
from control_plane.store.store import Store
from mesh.wire import MAX_FRAME_TO_SIDECAR, Snapshot, encode

RETRY_SECONDS = 1.0
MAX_VIEWS = 4096  # kept at the same time; beyond, they are computed again

log = logging.getLogger("doorward.push")


class ViewTooLarge(Exception):
    """What concerns one sidecar does not fit into a frame: it keeps its last snapshot. The message says by how much."""


@define(eq=False)
class Board:
    """The state that is being pushed. `hang` must have been awaited once before anything else is asked."""

    store: Store
    authority: IssuingAuthority
    links: Links
    metrics: Metrics
    platform: Platform | None = Factory(Platform)
    """What the cluster's objects say. None: there is a cluster, and it is not known yet; `show` says it then."""
    complete: bool = field(init=False, default=False)
    """Whether what hangs here may be pushed: without the cluster's part it would take routes away."""
    _picture: Picture | None = field(init=False, default=None)
    _reading: trio.Lock = field(factory=trio.Lock)
    _computing: trio.Lock = field(factory=trio.Lock)
    _views: dict[tuple[str, tuple[str, ...]], tuple[Snapshot, bytes]] = field(factory=dict)

    @property
    def picture(self) -> Picture:
        """The state as last read."""
        assert self._picture is not None
        return self._picture

    async def watch(self, advance: Advance) -> None:
        """Read the store, and again after each announcement, until cancelled."""
        while True:
            seen = advance.count
            try:
                await self.hang()
            except StoreError as error:
                log.exception("the store cannot be read; sidecars keep what they have", extra=fields(reason=str(error)))
                self.metrics.failures.labels("store").inc()
                await trio.sleep(RETRY_SECONDS)
            else:
                await advance.wait(seen)

    async def show(self, platform: Platform) -> bool:
        """Take over what the cluster's objects say, under a number of its own; True where it is new: announce it then.

        Within an epoch, snapshots that differ in what they say have to differ in their numbers. Raises StoreError.
        """
        async with self._reading:  # nobody reads the platform of before under the number of after
            if await trio.to_thread.run_sync(operator.eq, platform, self.platform):  # each may have 100,000 places
                return False
            await trio.to_thread.run_sync(self.store.note_platform)
            self.platform = platform
            return True

    async def hang(self) -> None:
        """Read the store and wake every link. Raises StoreError."""
        async with self._reading:
            platform = self.platform
            self._picture = picture = await trio.to_thread.run_sync(self._read, platform or Platform())
            self.complete = platform is not None
        self._views.clear()
        self.metrics.number.set(picture.number)
        self.metrics.policies.set(sum(len(found) for found in picture.governing.values()))
        self.metrics.endpoints.set(sum(len(found) for found in picture.endpoints.values()))
        for link in self.links.live():
            link.wanted.announce()

    async def view(self, link: Link) -> tuple[Snapshot, bytes]:
        """The newest snapshot for `link` and its frame. Raises ViewTooLarge."""
        workload = link.identity.workload
        assert workload is not None
        destinations = tuple(sorted(set(link.announced.destinations))) if link.announced else ()
        key = str(workload), destinations
        async with self._computing:  # replicas that want the same wait for the first, and large views hold no loop
            if key not in self._views:
                picture = self.picture
                view = await trio.to_thread.run_sync(_encoded, workload, destinations, picture)
                if picture is not self._picture:
                    return view
                if len(self._views) >= MAX_VIEWS:
                    self._views.clear()
                self._views[key] = view
            return self._views[key]

    def _read(self, platform: Platform) -> Picture:
        """One consistent state: revisions that came between the two reads are read again."""
        while True:
            contents = self.store.contents()
            policy_number = self.store.policy_number()
            if policy_number <= contents.number:
                return Picture.build(contents, policy_number, self.authority.bundle.to_der(), platform)


def _encoded(workload: WorkloadName, destinations: tuple[str, ...], picture: Picture) -> tuple[Snapshot, bytes]:
    try:
        snapshot = view_for(workload, destinations, picture)
    except ValueError as error:
        raise ViewTooLarge(str(error)[:300]) from None
    frame = encode(snapshot)
    if len(frame) > MAX_FRAME_TO_SIDECAR:
        raise ViewTooLarge(f"{len(frame)} bytes, more than {MAX_FRAME_TO_SIDECAR}")
    return snapshot, frame
