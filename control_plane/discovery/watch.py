"""Keeps the cluster's objects by list and watch, and has the board show what they mean, a moment after each change.

    pods, services, endpointslices, namespaces -> QUIET_SECONDS -> resolve, in a thread -> Board.show -> every link

Nothing is shown before all four kinds were listed once: what a control plane that has just started does not know yet
would be taken away from sidecars that do. While the API server is away, nothing changes.
"""

import logging
from collections.abc import Callable
from typing import Any, Final, Protocol, Self, TypeVar

import trio
from attrs import define

from control_plane.advance import merged
from control_plane.discovery.objects import (
    Pod,
    Service,
    Slice,
    keep_namespace,
    keep_pod,
    keep_service,
    keep_slice,
)
from control_plane.discovery.resolve import Objects, Resolved, resolve
from control_plane.discovery.routes import Discovered
from control_plane.kubernetes.watching import Watched
from control_plane.log import fields
from control_plane.push.office import Office
from control_plane.store.errors import StoreError

QUIET_SECONDS: Final = 0.1  # a rollout changes several objects at once
SHARE: Final = 4  # times as long as the last resolution took is rested before the next: a fifth of one core at most
RETRY_SECONDS: Final = 1.0
OVER_LOGGED: Final = 20

T = TypeVar("T")

log = logging.getLogger("doorward.discovery")


class Watch(Protocol):
    """Makes what keeps one kind of object; whoever asks runs it."""

    def __call__(self, path: str, keep: Callable[[dict[str, Any]], T | None], /) -> Watched[T]:
        """`path` is the kind's, in all namespaces."""


@define(eq=False)
class Discovery:
    """`run` keeps the board and `discovered` current."""

    office: Office
    discovered: Discovered
    pods: Watched[Pod]
    services: Watched[Service]
    slices: Watched[Slice]
    namespaces: Watched[bool]
    _took: float = 0.0
    """Seconds of the last resolution."""
    _over: frozenset[str] = frozenset()

    @classmethod
    def open(cls, watch: Watch, office: Office, discovered: Discovered) -> Self:
        """For all namespaces."""
        return cls(
            office,
            discovered,
            watch("/api/v1/pods", keep_pod),
            watch("/api/v1/services", keep_service),
            watch("/apis/discovery.k8s.io/v1/endpointslices", keep_slice),
            watch("/api/v1/namespaces", keep_namespace),
        )

    async def run(self) -> None:
        """Watch, resolve and show until cancelled. No fault of the API server's, the store's or ours ends it."""
        watched = self.pods, self.services, self.slices, self.namespaces
        async with trio.open_nursery() as nursery:
            moved = merged(nursery, *(each.changed for each in watched))
            for each in watched:
                nursery.start_soon(each.run)
            seen = moved.count
            while True:
                seen = await moved.wait(seen)
                if all(each.synced for each in watched):
                    await trio.sleep(max(QUIET_SECONDS, SHARE * self._took))
                    seen = moved.count
                    if not await self._look():
                        await trio.sleep(RETRY_SECONDS)
                        moved.announce()

    async def _look(self) -> bool:
        """Resolve what is there now and show it; False where that failed and is worth another try."""
        objects = Objects(
            tuple(self.pods.objects.values()),
            tuple(self.services.objects.values()),
            tuple(self.slices.objects.values()),
            frozenset(name for _, name in self.namespaces.objects),
        )
        began = trio.current_time()
        try:
            resolved = await trio.to_thread.run_sync(resolve, objects, self.office.trust_domain)
            self._took = trio.current_time() - began
            await self._show(resolved)
        except StoreError as error:
            log.exception("the cluster's changes cannot be numbered", extra=fields(reason=str(error)))
            self.office.metrics.failures.labels("store").inc()
            return False
        except Exception:  # a fault of ours must not end the control plane: what was shown stays
            log.exception("the cluster's objects cannot be resolved")
            self.office.metrics.failures.labels("discovery").inc()
        return True

    async def _show(self, resolved: Resolved) -> None:
        """Raises StoreError."""
        self.discovered.routes, self.discovered.complete = resolved.routes, True
        self._say_over(resolved.over)
        platform = resolved.platform
        if await self.office.board.show(platform):
            self.office.metrics.platform_endpoints.set(len(platform.endpoints))
            self.office.metrics.platform_services.set(len(platform.services))
            self.office.advance.announce()
            log.debug(
                "the cluster has changed",
                extra=fields(endpoints=len(platform.endpoints), services=len(platform.services)),
            )

    def _say_over(self, over: frozenset[str]) -> None:
        self.office.metrics.platform_over.set(len(over))
        if over - self._over:
            log.warning(
                "namespaces have more ports of pods and services, or places behind these, than there is room for: "
                "something of each is left out",
                extra=fields(namespaces=sorted(over)[:OVER_LOGGED]),
            )
        self._over = over
