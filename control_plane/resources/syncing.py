"""Keeping the store as the cluster's objects say: read, plan, store, announce; again whenever something moved.

Nothing is stored before every kind was listed completely: a view that lacks objects would delete policies. What was
read stays in force while the API server is away. A change goes the way of every other one, under the same lock and with
ownership checked in the store's own transaction; a store that fails is tried again.
"""

import functools
import logging
from collections.abc import Mapping, Sequence
from typing import Final

import trio
from attrs import Factory, define, field

from control_plane.admin.backend import Backend, in_thread
from control_plane.advance import Advance, merged
from control_plane.kubernetes.watching import Watched
from control_plane.log import fields
from control_plane.metrics import Metrics
from control_plane.resources.objects import ClusterObject
from control_plane.resources.planning import Plan, Stored, Verdict, plan, verdict
from control_plane.resources.reading import Reading, Readings, read_all
from control_plane.store.errors import OwnedByOther, StoreError
from control_plane.store.records import PolicyKey
from transport.backoff import Backoff

AUTHOR: Final = "kubernetes"
BACKOFF_SECONDS: Final = (0.5, 30.0)
GATHER_SECONDS: Final = 0.1  # objects that are applied together become one revision
FAULTS_LOGGED: Final = 5  # of one object; its status has more

log = logging.getLogger("doorward.resources")


@define(eq=False)
class PolicySync:
    """`watched` are the three kinds; whoever made this runs them. `run` never raises for a store's faults."""

    backend: Backend
    watched: Sequence[Watched[ClusterObject]]
    metrics: Metrics
    settled: Advance = Factory(Advance)
    """Announced whenever one of the next three is new; they belong together."""
    readings: Readings = field(init=False, factory=dict)
    stored: Stored = field(init=False, factory=dict)
    verdicts: Mapping[PolicyKey, Verdict] = field(init=False, factory=dict)
    _number: int = field(init=False, default=-1)

    async def run(self) -> None:
        """Sync until cancelled."""
        async with trio.open_nursery() as nursery:
            moved = merged(nursery, self.backend.advance, *(each.changed for each in self.watched))
            await self._follow(moved)

    async def _follow(self, moved: Advance) -> None:
        backoff = Backoff(*BACKOFF_SECONDS)
        while True:
            seen = moved.count
            try:
                await self._settle()
            except OwnedByOther:
                await trio.sleep(backoff.next())  # the command was faster: plan again with what it has made
            except StoreError as error:
                log.exception("policies of the cluster cannot be stored", extra=fields(reason=str(error)))
                self.metrics.failures.labels("store").inc()
                await trio.sleep(backoff.next())
            except Exception:  # a fault of ours with one object must not end the others' mesh
                log.exception("policies of the cluster cannot be read")
                self.metrics.failures.labels("resources").inc()
                await trio.sleep(backoff.next())
            else:
                backoff.reset()
                await moved.wait(seen)
                await trio.sleep(GATHER_SECONDS)

    async def _settle(self) -> None:
        """Raises StoreError, OwnedByOther."""
        if not all(each.synced for each in self.watched):
            return
        before = self.readings
        objects = [found for each in self.watched for found in each.objects.values()]
        readings = await in_thread(functools.partial(read_all, objects, before))
        number = await in_thread(self.backend.store.policy_number)
        if number == self._number and _say_the_same(readings, before):
            self.readings = readings  # their statuses may have changed
            self.settled.announce()
            return
        async with self.backend.changing:
            stored, verdicts = await self._store(readings)
            waiting = {key: readings[key].document for key, each in verdicts.items() if each is Verdict.OWNED_BY_CLI}
            self.backend.not_accepted.waiting = waiting
            self.backend.not_accepted.faulty = {key: each.faults for key, each in readings.items() if each.faults}
        self._tell(readings, verdicts)
        self.readings, self.stored, self.verdicts = readings, stored, verdicts
        self.settled.announce()

    async def _store(self, readings: Readings) -> tuple[Stored, Mapping[PolicyKey, Verdict]]:
        """Make the store say what the objects say. Raises StoreError, OwnedByOther."""
        number, stored = await in_thread(functools.partial(_read_store, self.backend))
        wanted = await in_thread(functools.partial(plan, readings, stored))
        if wanted is not None:
            await in_thread(functools.partial(_carry_out, self.backend, wanted))
            self.backend.advance.announce()
            number, stored = await in_thread(functools.partial(_read_store, self.backend))
        verdicts = await in_thread(functools.partial(_verdicts, readings, stored))
        self._number = number
        return stored, verdicts

    def _tell(self, readings: Readings, verdicts: Mapping[PolicyKey, Verdict]) -> None:
        """Count what became of the objects, and log each version that is not accepted once."""
        for each in Verdict:
            self.metrics.policy_objects.labels(each.value).set(sum(found is each for found in verdicts.values()))
        for key, found in verdicts.items():
            before = self.readings.get(key)
            told = before is not None and self.verdicts[key] is found and _says_the_same(readings[key], before)
            if found in (Verdict.FAULTS, Verdict.OWNED_BY_CLI) and not told:
                _say(readings[key], found)


def _say_the_same(readings: Readings, before: Readings) -> bool:
    return readings.keys() == before.keys() and all(_says_the_same(each, before[key]) for key, each in readings.items())


def _says_the_same(reading: Reading, before: Reading) -> bool:
    """By identity: `read_all` takes over what it need not read again."""
    return (
        reading.document is before.document
        and reading.faults is before.faults
        and reading.object.generation == before.object.generation
    )


def _say(reading: Reading, found: Verdict) -> None:
    kind, namespace, name = reading.object.key
    faults = [f"{each.path}: {each.message}" for each in reading.faults[:FAULTS_LOGGED]]
    log.warning(
        "a policy object is not accepted",
        extra=fields(kind=kind, object=f"{namespace}/{name}", reason=found.value, faults=faults),
    )


def _verdicts(readings: Readings, stored: Stored) -> Mapping[PolicyKey, Verdict]:
    return {key: verdict(each, stored.get(key)) for key, each in readings.items()}


def _read_store(backend: Backend) -> tuple[int, Stored]:
    """The number first: what is stored between the two is then read again. Blocks."""
    number = backend.store.policy_number()
    return number, {policy.key: policy for policy in backend.store.policies()}


def _carry_out(backend: Backend, wanted: Plan) -> None:
    """Blocks. Raises StoreError, OwnedByOther."""
    backend.store.change_policies(wanted.put, wanted.delete, author=AUTHOR, message=wanted.message, owner="cluster")
