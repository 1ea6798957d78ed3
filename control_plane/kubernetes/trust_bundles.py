"""The trust bundle as a ConfigMap in every namespace of the mesh, so that injected pods can mount it.

    plan            PURE: what is wanted and what there is -> the steps in between
    TrustBundles    watches both and takes the steps

It is made in each namespace with the label `doorward.dev/inject: enabled`, put right when somebody changes or deletes
it, written anew when the roots change, and removed where the label is. One of that name in a namespace outside of the
mesh is left alone unless it carries our own label.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

import trio
from attrs import define, field, frozen

from control_plane.advance import Advance, merged
from control_plane.kubernetes.api import KubernetesApi
from control_plane.kubernetes.errors import ApiRefused, ApiUnreachable, KubernetesError
from control_plane.kubernetes.marks import INJECT
from control_plane.kubernetes.watching import Watched
from control_plane.log import fields
from transport.backoff import Backoff

NAME: Final = "doorward-trust-bundle"
KEY: Final = "bundle.pem"
IN_THE_MESH: Final = f"{INJECT}=enabled"
LABELS: Final = {"app.kubernetes.io/managed-by": "doorward"}
PAUSE_SECONDS: Final = 0.1  # between two rounds: whoever else keeps changing it does not make us hurry
BACKOFF_SECONDS: Final = (1.0, 60.0)
NOT_FOUND, CONFLICT, INVALID = 404, 409, 422

log = logging.getLogger("doorward.kubernetes")


@frozen
class Held:
    """A ConfigMap as it is."""

    data: Mapping[str, str]
    ours: bool
    """It carries our label."""


@frozen
class Step:
    """What to do in one namespace."""

    action: Literal["create", "replace", "delete"]
    namespace: str


def plan(pem: str, namespaces: Mapping[str, bool], held: Mapping[str, Held]) -> list[Step]:
    """The steps that lead to `pem` in every namespace of the mesh, and nowhere else.

    `namespaces` are those in the mesh, each with whether it is there to stay; one that is ending is left alone.
    """
    wanted, steps = Held({KEY: pem}, ours=True), []
    for namespace, stays in namespaces.items():
        if stays and namespace not in held:
            steps.append(Step("create", namespace))
        elif stays and held[namespace] != wanted:
            steps.append(Step("replace", namespace))
    gone = [namespace for namespace, found in held.items() if found.ours and namespace not in namespaces]
    return steps + [Step("delete", namespace) for namespace in gone]


@define(eq=False)
class TrustBundles:
    """Keeps the ConfigMaps while `run` runs. `pem` is asked for the bundle anew whenever `moved` is announced."""

    api: KubernetesApi
    pem: Callable[[], str]
    moved: Advance
    namespaces: Watched[bool] = field(init=False)
    held: Watched[Held] = field(init=False)
    _backoff: Backoff = field(init=False, factory=lambda: Backoff(*BACKOFF_SECONDS))

    def __attrs_post_init__(self) -> None:
        self.namespaces = Watched(self.api, "/api/v1/namespaces", read_namespace, IN_THE_MESH)
        self.held = Watched(self.api, "/api/v1/configmaps", read_config_map, field_selector=f"metadata.name={NAME}")

    async def run(self) -> None:
        """Until cancelled. No fault of the API server's ends it."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.namespaces.run)
            nursery.start_soon(self.held.run)
            moved = merged(nursery, self.namespaces.changed, self.held.changed, self.moved)
            while True:
                seen = moved.count
                if await self._round():
                    self._backoff.reset()
                    await trio.sleep(PAUSE_SECONDS)
                    await moved.wait(seen)
                else:
                    await trio.sleep(self._backoff.next())

    async def _round(self) -> bool:
        """Take every step; whether none of them failed."""
        if not (self.namespaces.synced and self.held.synced):
            return True  # the lists announce themselves
        namespaces = {name: stays for (_, name), stays in self.namespaces.objects.items()}
        held = {namespace: found for (namespace, _), found in self.held.objects.items()}
        well = True
        for step in plan(self.pem(), namespaces, held):
            try:
                await self._take(step)
            except ApiUnreachable:
                return False
            except KubernetesError as error:
                well = False
                log.warning(
                    "the trust bundle of a namespace cannot be kept",
                    extra=fields(namespace=step.namespace, action=step.action, reason=str(error)),
                )
        return well

    async def _take(self, step: Step) -> None:
        collection = f"/api/v1/namespaces/{step.namespace}/configmaps"
        body = {"metadata": {"name": NAME, "labels": LABELS}, "data": {KEY: self.pem()}}
        try:
            match step.action:
                case "create":
                    await self.api.create(collection, body)
                case "replace":
                    await self._replace(f"{collection}/{NAME}", body)
                case "delete":
                    await self.api.delete(f"{collection}/{NAME}")
        except ApiRefused as error:
            if error.status not in (NOT_FOUND, CONFLICT):  # else somebody was faster, and the watch will say so
                raise
        else:
            log.info("trust bundle", extra=fields(namespace=step.namespace, action=step.action))

    async def _replace(self, path: str, body: dict[str, Any]) -> None:
        try:
            await self.api.replace(path, body)
        except ApiRefused as error:
            if error.status != INVALID:
                raise
            await self.api.delete(path)  # somebody made it immutable; the watch says that it is missing


def read_namespace(item: dict[str, Any]) -> bool:
    """Whether it is there to stay."""
    return "deletionTimestamp" not in item["metadata"]


def read_config_map(item: dict[str, Any]) -> Held:
    """What matters of a ConfigMap."""
    labels = item["metadata"].get("labels") or {}
    data = {**(item.get("data") or {}), **(item.get("binaryData") or {})}
    return Held(data, all(labels.get(name) == value for name, value in LABELS.items()))
