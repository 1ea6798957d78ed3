"""Proxy: the one bag that every connection's task is handed. It owns nothing; it knows where everything is."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import trio
from attrs import Factory, field, frozen

from sidecar.access_log import AccessLog
from sidecar.balance import Loads
from sidecar.live import LiveConnections
from sidecar.metrics import Metrics
from sidecar.settings import Address, Limits, Settings
from sidecar.view import Mesh
from transport import Budget, Dialled, Places

HANDSHAKES_PER_TURN = 16  # steps of about 1 ms: a burst neither holds the loop (law 31) nor waits behind it for seconds

T = TypeVar("T")


@frozen(eq=False)
class Proxy:
    """What all connections of one sidecar share. Only the first five have to be given.

    `draining` is set once no new connection or request is to be taken. `budget` counts connections that have not
    said who they are (law 21), `places` all that were accepted, `handshakes` paces the work of handshakes, `listening`
    are our own TCP listeners, which are no application (law 7), `dialled` our own connections, which are no caller's.
    """

    settings: Settings
    mesh: Mesh
    metrics: Metrics
    log: AccessLog
    instance: str
    live: LiveConnections = Factory(LiveConnections)
    loads: Loads = Factory(Loads)
    draining: trio.Event = Factory(trio.Event)
    listening: list[Address] = Factory(list)
    dialled: Dialled = Factory(Dialled)
    handshakes: trio.CapacityLimiter = Factory(lambda: trio.CapacityLimiter(HANDSHAKES_PER_TURN))
    budget: Budget = field()
    places: Places = field()
    _shared: dict[Callable[["Proxy"], Any], Any] = Factory(dict)

    @budget.default
    def _unauthenticated(self) -> Budget:
        return Budget(self.limits.unauthenticated_total, self.limits.unauthenticated_per_address)

    @places.default
    def _accepted(self) -> Places:
        return Places(self.limits.max_connections)

    @property
    def limits(self) -> Limits:
        """The bounds and deadlines of this sidecar."""
        return self.settings.limits

    def shared(self, make: Callable[["Proxy"], T]) -> T:
        """The one object of its kind in this proxy, such as the HTTP pools: `make(proxy)` builds it on first use."""
        if make not in self._shared:
            self._shared[make] = make(self)
        return cast("T", self._shared[make])
