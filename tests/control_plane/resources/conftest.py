"""A store, watched objects that the test puts there, and an API server that takes statuses or does not."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from attrs import define, field

from control_plane.admin.backend import Backend
from control_plane.advance import Advance
from control_plane.authority import IssuingAuthority
from control_plane.kubernetes.api import KubernetesApi
from control_plane.kubernetes.contact import Contact
from control_plane.kubernetes.errors import KubernetesError
from control_plane.kubernetes.watching import Watched
from control_plane.metrics import Metrics
from control_plane.push.links import Links
from control_plane.resources.objects import PLURALS, ClusterObject, collection, kept
from control_plane.resources.reporting import StatusReports
from control_plane.resources.syncing import PolicySync
from control_plane.store.store import Store
from tests.support.stores import HOME, Clock


@define(eq=False)
class FakeApi:
    """Takes patches of statuses as KubernetesApi does, and raises what the test wants raised."""

    contact: Contact
    patches: list[tuple[str, dict[str, Any]]] = field(factory=list)
    failures: list[KubernetesError] = field(factory=list)

    async def patch(self, path: str, body: dict[str, Any], *, kind: str = "merge", **params: str) -> dict[str, Any]:
        self.patches.append((path.split("/")[-2], body))
        if self.failures:
            raise self.failures.pop(0)
        return {}


@define(eq=False)
class House:
    """What the tests of this room stand in."""

    backend: Backend
    watched: dict[str, Watched[ClusterObject]]
    sync: PolicySync
    api: FakeApi
    reports: StatusReports

    @property
    def store(self) -> Store:
        return self.backend.store

    def show(self, *items: dict[str, Any], kind: str = "AllowPolicy") -> None:
        """What the watch of a kind shows from now on."""
        watched = self.watched[kind]
        found = [kept(kind, each) for each in items]
        watched.objects, watched.synced = {(each.namespace, each.name): each for each in found}, True
        watched.changed.announce()

    def list_all(self) -> None:
        """Every kind was listed, and there was nothing."""
        for kind in PLURALS:
            self.show(kind=kind)

    def stored(self) -> dict[str, str]:
        """Whose each document is, by name."""
        return {each.name: each.owner for each in self.store.policies()}


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    clock, metrics, advance = Clock(), Metrics(), Advance()
    store = Store.open(f"sqlite:///{tmp_path / 'store.db'}", trust_domain=HOME, clock=clock)
    authority = cast("IssuingAuthority", None)  # nothing here issues certificates
    backend = Backend(HOME, store, Links(), authority, advance, clock)
    api = FakeApi(Contact(metrics))
    client = cast("KubernetesApi", api)
    watched = {kind: Watched[ClusterObject](client, collection(kind), lambda item: None) for kind in PLURALS}
    sync = PolicySync(backend, list(watched.values()), metrics)
    yield House(backend, watched, sync, api, StatusReports(client, backend, sync))
    store.close()
