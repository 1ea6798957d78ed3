"""What a test has made in an API server is taken away again: what is refused for a moment is tried until it is done."""

from collections.abc import Awaitable, Callable
from functools import partial

import trio

from control_plane.kubernetes.api import KubernetesApi
from control_plane.kubernetes.errors import ApiRefused
from tests.support.patience import PATIENCE

HELD = (
    "/api/v1/{}/pods",
    "/api/v1/{}/services",
    "/apis/apps/v1/{}/deployments",
    "/apis/discovery.k8s.io/v1/{}/endpointslices",
)
NOT_FOUND = 404
PASSING = (409, 429)


async def unmake(api: KubernetesApi, path: str, **params: str) -> None:
    """Delete the object or the collection at `path`, if it is there."""
    await _carry_out(partial(api.delete, path, **params))


async def unmake_namespace(api: KubernetesApi, name: str) -> None:
    """Delete it, and do what the namespace controller does then, for the kinds that tests make."""
    for path in HELD:
        await unmake(api, path.format(f"namespaces/{name}"), gracePeriodSeconds="0")
    await unmake(api, f"/api/v1/namespaces/{name}")
    await _carry_out(partial(_end, api, f"/api/v1/namespaces/{name}"))


async def _end(api: KubernetesApi, path: str) -> None:
    left = await api.get(path)
    await api.replace(f"{path}/finalize", {**left, "spec": {"finalizers": []}})


async def _carry_out(ask: Callable[[], Awaitable[None]]) -> None:
    with trio.fail_after(PATIENCE):
        while True:
            try:
                return await ask()
            except ApiRefused as refused:
                if refused.status == NOT_FOUND:
                    return None
                if refused.status not in PASSING and refused.status < 500:
                    raise
            await trio.sleep(0.1)
