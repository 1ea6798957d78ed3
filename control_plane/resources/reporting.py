"""Writing the statuses: those that differ from what the objects say, whenever something moved that they speak of.

Rounds are PAUSE_SECONDS apart, so that no object is written more often however fast sidecars acknowledge, and one round
costs one look at each object. Nothing is remembered of what was written but until the watch shows it: after a restart,
or where somebody else has written, the object itself says whether it needs a word.
"""

import logging
from collections.abc import Iterator
from typing import Any, Final

import trio
from attrs import define, evolve, field, frozen

from control_plane.admin.backend import Backend, in_thread
from control_plane.admin.enforcement import Enforcement, Fleet, target_of
from control_plane.advance import Advance, merged
from control_plane.kubernetes.api import KubernetesApi
from control_plane.kubernetes.errors import ApiRefused, KubernetesError
from control_plane.log import fields
from control_plane.resources.objects import ClusterObject
from control_plane.resources.reading import Reading
from control_plane.resources.statuses import Status, change_to, status_of
from control_plane.resources.syncing import PolicySync
from control_plane.store.records import StoredPolicy
from transport.backoff import Backoff

PAUSE_SECONDS: Final = 1.0
BACKOFF_SECONDS: Final = (1.0, 30.0)
AT_ONCE: Final = 4  # of the requests that may be under way to the API server
OTHERS: Final = (401, 403, 408, 429)  # refusals that say nothing about the one object
GONE_OR_OTHER: Final = (404, 409)  # the watch will tell: it was deleted, or is another one by now

log = logging.getLogger("doorward.resources")


@frozen
class _Change:
    """What one object's status becomes, and the patch that makes it so."""

    object: ClusterObject
    status: Status
    patch: dict[str, Any]


@define(eq=False)
class StatusReports:
    """`run` never raises for the API server's faults."""

    api: KubernetesApi
    backend: Backend
    sync: PolicySync
    _written: dict[tuple[str, str], Status] = field(init=False, factory=dict)
    """By uid and the resourceVersion that it had before, which the watch will leave behind."""
    _trouble: str = field(init=False, default="")

    async def run(self) -> None:
        """Keep the statuses true until cancelled."""
        async with trio.open_nursery() as nursery:
            await self._follow(merged(nursery, self.sync.settled, self.backend.links.moved))

    async def _follow(self, moved: Advance) -> None:
        backoff = Backoff(*BACKOFF_SECONDS)
        while True:
            seen = moved.count
            try:
                await self._round()
            except KubernetesError as error:
                self._say(error)
                await trio.sleep(backoff.next())
            except Exception:  # a fault of ours with one object must not end the others' mesh
                log.exception("statuses of policy objects cannot be made")
                self.sync.metrics.failures.labels("resources").inc()
                await trio.sleep(backoff.next())
            else:
                backoff.reset()
                await trio.sleep(PAUSE_SECONDS)
                await moved.wait(seen)

    async def _round(self) -> None:
        """Write every status that differs. Raises the first KubernetesError, having tried the others under way."""
        changes = await self._changes()
        failed: list[KubernetesError] = []
        waiting = iter(changes)
        async with trio.open_nursery() as nursery:
            for _ in range(min(AT_ONCE, len(changes))):
                nursery.start_soon(self._write_each, waiting, failed)
        if failed:
            raise failed[0]
        self._trouble = ""

    async def _changes(self) -> list[_Change]:
        links = self.backend.links.status()
        sync = self.sync
        readings, stored, verdicts = sync.readings, sync.stored, sync.verdicts
        now, epoch = self.backend.clock(), self.backend.store.epoch
        known = {(each.object.uid, each.object.version) for each in readings.values()}
        self._written = {key: status for key, status in self._written.items() if key in known}

        def found() -> list[_Change]:
            fleet = Fleet.of(links, self.backend.trust_domain, epoch)
            changes: list[_Change] = []
            for key, each in readings.items():
                reading, document = self._current(each), stored.get(key)
                status = status_of(reading, verdicts[key], document, _count(fleet, document), now)
                patch = change_to(status, reading.object.status) if status is not None else None
                if status is not None and patch is not None:
                    changes.append(_Change(reading.object, status, patch))
            return changes

        return await in_thread(found)

    def _current(self, reading: Reading) -> Reading:
        """With the status that was written already, where the watch has not shown it yet."""
        found = reading.object
        written = self._written.get((found.uid, found.version))
        return reading if written is None else evolve(reading, object=evolve(found, status=written))

    async def _write_each(self, changes: Iterator[_Change], failed: list[KubernetesError]) -> None:
        for change in changes:
            if failed:
                return
            try:
                await self._write(change)
            except KubernetesError as error:
                failed.append(error)

    async def _write(self, change: _Change) -> None:
        """Only to the object that was read, as it was then; not to another one of its name. Raises KubernetesError."""
        found = change.object
        body = {"metadata": {"resourceVersion": found.version}, "status": change.patch}
        try:
            await self.api.patch(found.status_path, body, fieldManager="doorward")
        except ApiRefused as error:
            if error.status in OTHERS or error.status >= 500:
                raise
            if error.status not in GONE_OR_OTHER:
                self._say(error)
        else:
            self._written[found.uid, found.version] = change.status

    def _say(self, error: KubernetesError) -> None:
        if str(error) != self._trouble and not self.api.contact.away:
            log.warning("statuses of policy objects cannot be written", extra=fields(reason=str(error)))
        self._trouble = str(error)


def _count(fleet: Fleet, stored: StoredPolicy | None) -> Enforcement | None:
    return None if stored is None else fleet.enforcement([target_of(stored.document)], stored.number)
