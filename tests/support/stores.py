"""What tests put into a store, and the clock that they open it with."""

from datetime import UTC, datetime, timedelta
from typing import Any

from attrs import define

from certs.spiffe import SpiffeId, TrustDomain, WorkloadName
from control_plane.store.records import Lease

HOME = TrustDomain("cluster.local")
CHECKOUT = WorkloadName("shop", "checkout")
PAYMENTS = WorkloadName("shop", "payments")


@define
class Clock:
    """Now, until the test moves it on."""

    now: datetime = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **how: float) -> None:
        self.now += timedelta(**how)


def document(name: str, generation: int = 1) -> dict[str, Any]:
    """A policy document; documents of other generations differ."""
    return {
        "apiVersion": "doorward.dev/v1",
        "kind": "AllowPolicy",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"to": {"workload": "payments", "ports": [8000 + generation]}, "from": [{"workload": "checkout"}]},
    }


def lease(of: WorkloadName, address: str, clock: Clock, **how: Any) -> Lease:
    """A lease of 90 seconds for port 8080 of a workload, in the instance `one`."""
    fields: dict[str, Any] = {
        "identity": str(identity(of)),
        "instance": "one",
        "workload": str(of),
        "port": 8080,
        "mesh_port": 8443,
        "address": address,
        "protocol": "http",
        "expires": clock.now + timedelta(seconds=90),
        "confirmed": True,
    }
    return Lease(**{**fields, **how})


def identity(workload: WorkloadName) -> SpiffeId:
    return workload.in_domain(HOME)
