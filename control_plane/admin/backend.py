"""What the admin API stands on: the parts of one running control plane, in one bag.

Every store method blocks, so each call goes to a thread through `in_thread`; nothing else here may block. `changing`
makes reading the policies and planning a change to them one step: there is one process per state directory.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TypeVar

import trio
from attrs import Factory, define, frozen

from certs.spiffe import TrustDomain
from control_plane.advance import Advance
from control_plane.authority import IssuingAuthority
from control_plane.discovery.routes import Discovered
from control_plane.injector.injection import Injection
from control_plane.kubernetes.contact import Contact
from control_plane.push.links import Links
from control_plane.settings import Lifetimes
from control_plane.store.records import Document, PolicyKey
from control_plane.store.store import Store
from mesh.policy import Fault

T = TypeVar("T")


@define(eq=False)
class NotAccepted:
    """The cluster's policy objects of which what stands there now is not in force, by key."""

    waiting: Mapping[PolicyKey, Document | None] = Factory(dict)
    """Those that wait for the command to release their policies; None for one with faults."""
    faulty: Mapping[PolicyKey, Sequence[Fault]] = Factory(dict)


@frozen
class Backend:
    """The parts that answer. `clock` returns an aware UTC datetime."""

    trust_domain: TrustDomain
    store: Store
    links: Links
    authority: IssuingAuthority
    advance: Advance
    clock: Callable[[], datetime]
    lifetimes: Lifetimes = Factory(Lifetimes)
    operators_listen: str | None = None
    """Where operators connect over TLS, `IP:PORT`; None where they cannot."""
    contact: Contact | None = None
    """Whether the Kubernetes API server answers; None where there is no cluster."""
    injection: Injection | None = None
    """None where there is no cluster."""
    changing: trio.Lock = Factory(trio.Lock)
    not_accepted: NotAccepted = Factory(NotAccepted)
    discovered: Discovered = Factory(Discovered)


async def in_thread(call: Callable[[], T]) -> T:
    """Run one blocking store call in a thread. It is not abandoned on cancellation: a transaction ends as it began."""
    return await trio.to_thread.run_sync(call)
