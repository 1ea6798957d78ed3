"""Pods and namespaces as they are at this moment, asked of the API server page by page.

Not watched: who asks does so rarely, and wants more of each pod than is worth keeping of all of them.
"""

from collections.abc import Callable
from contextlib import aclosing
from typing import Any, TypeVar

from control_plane.injector.audit import Namespace, Pod, read_namespace, read_pod
from control_plane.kubernetes.api import KubernetesApi
from control_plane.kubernetes.errors import ApiStrange
from control_plane.kubernetes.pages import pages

T = TypeVar("T")


async def list_namespaces(api: KubernetesApi, name: str | None = None) -> list[Namespace]:
    """All, or the one of this name, which the caller has checked. Raises KubernetesError."""
    if name is None:
        return await _list(api, "/api/v1/namespaces", read_namespace)
    return [_read(read_namespace, await api.get(f"/api/v1/namespaces/{name}"))]


async def list_pods(api: KubernetesApi, namespace: str | None = None) -> list[Pod]:
    """Those of all namespaces, or of one, whose name the caller has checked. Raises KubernetesError."""
    return await _list(api, "/api/v1/pods" if namespace is None else f"/api/v1/namespaces/{namespace}/pods", read_pod)


async def _list(api: KubernetesApi, path: str, read: Callable[[dict[str, Any]], T]) -> list[T]:
    async with aclosing(pages(api, path)) as found:
        return [_read(read, each) async for page in found for each in page.items]


def _read(read: Callable[[dict[str, Any]], T], found: dict[str, Any]) -> T:
    try:
        return read(found)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ApiStrange("the API server's object lacks what every object of its kind has") from error
