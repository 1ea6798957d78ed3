"""Every task of this room in one nursery."""

import functools

import trio

from control_plane.admin.backend import Backend
from control_plane.kubernetes.api import KubernetesApi
from control_plane.kubernetes.watching import Watched
from control_plane.metrics import Metrics
from control_plane.resources.objects import PLURALS, ClusterObject, collection, kept
from control_plane.resources.reporting import StatusReports
from control_plane.resources.syncing import PolicySync


async def keep_policies(api: KubernetesApi, backend: Backend, metrics: Metrics) -> None:
    """Keep the store as the cluster's policy objects say, and their statuses true, until cancelled.

    The control plane is ready without them: what they said before a restart is in the store.
    """
    watched: list[Watched[ClusterObject]] = [
        Watched(api, collection(kind), functools.partial(kept, kind)) for kind in PLURALS
    ]
    sync = PolicySync(backend, watched, metrics)
    async with trio.open_nursery() as nursery:
        for each in watched:
            nursery.start_soon(each.run)
        nursery.start_soon(sync.run)
        nursery.start_soon(StatusReports(api, backend, sync).run)
