"""One kind of object as it is now: listed once, page by page, then kept by a watch.

    list -> watch from its resourceVersion -> ended: watch on from the last one seen -> 410 Gone: list again

What is kept is exchanged as a whole: whoever takes `objects` holds one consistent mapping for as long as needed. It
stays as it was while the API server is away, and a new list replaces all of it at once. Two connections are never
less than a backoff apart unless the first lived for a while, whatever ended it.

As in "Efficient detection of changes" of Kubernetes' "API concepts".
"""

import logging
import random
from collections.abc import Callable, Mapping
from contextlib import aclosing
from typing import Any, Final, Generic, TypeVar

import trio
from attrs import Factory, define, field

from control_plane.advance import Advance
from control_plane.kubernetes.api import KubernetesApi
from control_plane.kubernetes.errors import ApiRefused, ApiStrange, ApiUnreachable, KubernetesError
from control_plane.kubernetes.pages import pages
from control_plane.log import fields
from transport.backoff import Backoff

WATCH_SECONDS: Final = (300, 600)  # the API server ends each watch after so long: not all of them at once
LIVED_SECONDS: Final = 10.0
BACKOFF_SECONDS: Final = (0.25, 15.0)
GONE: Final = 410

T = TypeVar("T")
Key = tuple[str, str]
"""(namespace, name); the namespace of what has none is ""."""

log = logging.getLogger("doorward.kubernetes")
_random = random.SystemRandom()


@define(eq=False)
class Watched(Generic[T]):
    """The objects at `path` (`/api/v1/pods`) that `keep` keeps, while `run` runs.

    `keep` is given each object as the API server has it and returns what is worth remembering, or None to forget it.
    Equal results are no change.
    """

    api: KubernetesApi
    path: str
    keep: Callable[[dict[str, Any]], T | None]
    label_selector: str = ""
    field_selector: str = ""
    objects: Mapping[Key, T] = field(init=False, factory=dict)
    synced: bool = field(init=False, default=False)
    """One complete list was seen."""
    changed: Advance = field(init=False, factory=Advance)
    """Announced when `synced` becomes true, and whenever `objects` have changed."""
    _now: dict[Key, T] = field(init=False, factory=dict)
    _version: str = field(init=False, default="")
    """The resourceVersion from which to watch; "" where a list has to come first."""
    _trouble: str = field(init=False, default="")
    _away: bool = field(init=False, default=False)
    """Whether the API server was away, and has refused nothing since."""
    _backoff: Backoff = field(init=False, default=Factory(lambda: Backoff(*BACKOFF_SECONDS)))

    @property
    def kind(self) -> str:
        """What it is called in metrics and the log: the plural, such as `pods`."""
        return self.path.rpartition("/")[2]

    async def run(self) -> None:
        """Keep `objects` current until cancelled. No fault of the API server's or ours ends it."""
        while True:
            began = trio.current_time()
            await self._follow()
            if trio.current_time() - began >= LIVED_SECONDS:
                self._backoff.reset()
                if not self._trouble:
                    continue
            await trio.sleep(self._backoff.next())

    async def _follow(self) -> None:
        """List where that is needed and watch until the watch ends, however it does."""
        try:
            if not self._version:
                await self._list()
            await self._watch()
        except ApiRefused as error:
            if error.status == GONE:
                self._version = ""
                self._come_back()
            else:
                self._say(error)
        except ApiStrange as error:  # what came before it may be wrong too
            self._version = ""
            self._say(error)
        except KubernetesError as error:
            self._say(error)
        except Exception:  # a fault of ours must not end the control plane: what was kept stays
            self._version = ""
            log.exception("the cluster's objects cannot be kept", extra=fields(kind=self.kind))
            self.api.contact.metrics.failures.labels("kubernetes").inc()

    async def _list(self) -> None:
        listed: dict[Key, T] = {}
        async with aclosing(pages(self.api, self.path, **self._selectors())) as found:
            async for page in found:
                version = page.version
                try:
                    for item in page.items:
                        self._apply(listed, item)
                except (KeyError, TypeError) as error:
                    raise ApiStrange(f"{self.path} answered with no list") from error
        self._version, self._now = version, listed
        self.api.contact.metrics.kubernetes_lists.labels(self.kind).inc()
        self._publish(first=not self.synced)

    async def _watch(self) -> None:
        params = {**self._selectors(), "resourceVersion": self._version, "allowWatchBookmarks": "true"}
        params["timeoutSeconds"] = str(_random.randint(*WATCH_SECONDS))
        async with self.api.watch(self.path, **params) as events:
            self._well()
            try:
                async for event in events:
                    self._take(event)
                    if not events.more:
                        self._publish()
            finally:
                self._publish()

    def _take(self, event: dict[str, Any]) -> None:
        kind, item = event["type"], event["object"]
        if kind == "ERROR":
            code = item.get("code")
            raise ApiRefused.read(code if isinstance(code, int) else 0, item)
        if kind not in ("ADDED", "MODIFIED", "DELETED", "BOOKMARK"):
            raise ApiStrange(f"an event of {self.kind} has an unknown type")
        try:
            version = str(item["metadata"]["resourceVersion"])
            if kind == "DELETED":
                self._now.pop(_key(item), None)
            elif kind != "BOOKMARK":
                self._apply(self._now, item)
        except (KeyError, TypeError) as error:
            raise ApiStrange(f"an event of {self.kind} has no metadata") from error
        self._version = version

    def _apply(self, objects: dict[Key, T], item: dict[str, Any]) -> None:
        """Raises KeyError or TypeError where the object has no name."""
        key = _key(item)
        try:
            kept = self.keep(item)
        except Exception:  # a fault of ours with one object must not cost the others
            log.exception("an object of the cluster cannot be read", extra=fields(kind=self.kind, object="/".join(key)))
            self.api.contact.metrics.failures.labels("kubernetes").inc()
            kept = None
        if kept is None:
            objects.pop(key, None)
        else:
            objects[key] = kept

    def _publish(self, *, first: bool = False) -> None:
        """Exchange what readers see, where it differs."""
        if first or self._now != self.objects:
            self.objects, self.synced = dict(self._now), True
            self.api.contact.metrics.kubernetes_objects.labels(self.kind).set(len(self.objects))
            self.changed.announce()

    def _selectors(self) -> dict[str, str]:
        both = {"labelSelector": self.label_selector, "fieldSelector": self.field_selector}
        return {name: value for name, value in both.items() if value}

    def _say(self, error: KubernetesError) -> None:
        """Once for each trouble; that nobody answers is said by the contact, for all kinds together."""
        if isinstance(error, ApiUnreachable):
            self._away = True
        else:
            self._come_back()
            if str(error) != self._trouble:
                log.warning("the cluster's objects cannot be watched", extra=fields(kind=self.kind, reason=str(error)))
        self._trouble = str(error)

    def _come_back(self) -> None:
        """Begin the backoff anew where the API server answers again: what it refuses it is ready for in a moment."""
        if self._away:
            self._backoff.reset()
        self._away = False

    def _well(self) -> None:
        if self._trouble:
            log.info("the cluster's objects are watched again", extra=fields(kind=self.kind))
        self._trouble = ""


def _key(item: dict[str, Any]) -> Key:
    metadata = item["metadata"]
    name, namespace = metadata["name"], metadata.get("namespace", "")
    if not isinstance(name, str) or not isinstance(namespace, str):
        raise TypeError("names are strings")
    return namespace, name
