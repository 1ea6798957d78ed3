"""Lists of the Kubernetes API, page by page.

A page is as large as what users have put into its objects: one that is more than `api` takes is asked for again in
shorter ones, so that nobody's vast objects hide those of others.
"""

from collections.abc import AsyncGenerator
from typing import Any, Final

from attrs import frozen

from control_plane.kubernetes.api import KubernetesApi
from control_plane.kubernetes.errors import AnswerTooLarge, ApiStrange

PAGE: Final = 500
SHORTER: Final = 10  # times as short is the next attempt


@frozen
class Page:
    """Some of a list's objects, and the list's resourceVersion."""

    items: list[Any]
    version: str


async def pages(api: KubernetesApi, path: str, **selectors: str) -> AsyncGenerator[Page, None]:
    """The whole list. Raises KubernetesError."""
    limit, params = PAGE, selectors
    while True:
        try:
            answer = await api.get(path, **params, limit=str(limit))
        except AnswerTooLarge:
            if limit == 1:
                raise
            limit = max(1, limit // SHORTER)
            continue
        items, metadata = answer.get("items") or [], answer.get("metadata")
        if not isinstance(items, list) or not isinstance(metadata, dict) or "resourceVersion" not in metadata:
            raise ApiStrange(f"{path} answered with no list")
        yield Page(items, str(metadata["resourceVersion"]))
        if not metadata.get("continue"):
            return
        params = {**selectors, "continue": str(metadata["continue"])}
