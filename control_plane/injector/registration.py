"""API servers believe the webhook by the roots in its MutatingWebhookConfiguration: their `caBundle` is kept current.

Everything else in that object belongs to whoever made it, the chart. It is watched, so that a `caBundle` that somebody
overwrote is repaired at once; and each change says which version of the object it is meant for.
"""

import logging
from base64 import b64encode
from typing import Any, Literal

import trio
from attrs import define, field, frozen

from control_plane.authority import IssuingAuthority
from control_plane.kubernetes.api import KubernetesApi
from control_plane.kubernetes.errors import KubernetesError
from control_plane.kubernetes.watching import Watched
from control_plane.log import fields

PATH = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
NAME_LABEL = "kubernetes.io/metadata.name"
LOOK_SECONDS = 5.0
"""How often the roots are compared; changes of the object are seen as they happen."""
PAUSE_SECONDS = 1.0
"""Between two repairs, where something else keeps overwriting what they write."""

log = logging.getLogger("doorward.injector")


@frozen
class Webhooks:
    """What is kept of the configuration."""

    version: str
    bundles: tuple[str, ...]
    """Each of its webhooks' `caBundle`, "" where it has none."""
    excluded: frozenset[str] = frozenset()
    """Namespaces that it names as those in which it does nothing."""


@frozen
class Registered:
    """How the registration stands, for `doorward check`."""

    name: str
    state: Literal["current", "stale", "missing", "unknown"]
    detail: str = ""
    """Why it is stale or unknown."""


def keep(configuration: dict[str, Any]) -> Webhooks:
    """What is kept of a MutatingWebhookConfiguration."""
    hooks = configuration.get("webhooks") or ()
    bundles = tuple(each.get("clientConfig", {}).get("caBundle", "") for each in hooks)
    excluded = [_excluded(each.get("namespaceSelector") or {}) for each in hooks]
    common = frozenset.intersection(*excluded) if excluded else frozenset()
    return Webhooks(configuration["metadata"]["resourceVersion"], bundles, common)


def _excluded(selector: dict[str, Any]) -> frozenset[str]:
    """The namespaces that a namespaceSelector leaves out by name."""
    return frozenset(
        name
        for each in selector.get("matchExpressions") or ()
        if (each.get("key"), each.get("operator")) == (NAME_LABEL, "NotIn")
        for name in each.get("values") or ()
    )


def patch(seen: Webhooks, bundle: str) -> list[dict[str, Any]]:
    """The JSON patch that puts `bundle` where another one was seen; none where it is everywhere. Pure."""
    test = {"op": "test", "path": "/metadata/resourceVersion", "value": seen.version}
    puts = [
        {"op": "add", "path": f"/webhooks/{index}/clientConfig/caBundle", "value": bundle}
        for index, found in enumerate(seen.bundles)
        if found != bundle
    ]
    return [test, *puts] if puts else []


@define(eq=False)
class Registration:
    """Keeps the configuration called `name` current while it runs."""

    api: KubernetesApi
    name: str
    authority: IssuingAuthority
    _watched: Watched[Webhooks] = field(init=False)
    _trouble: str = field(init=False, default="")
    """Why the last repair failed."""
    _missed: bool = field(init=False, default=False)
    """It was said that there is no such object."""

    def __attrs_post_init__(self) -> None:
        self._watched = Watched(self.api, PATH, keep, field_selector=f"metadata.name={self.name}")

    async def run(self) -> None:
        """Run until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watched.run)
            while True:
                seen = self._watched.changed.count
                if await self._repair():
                    await trio.sleep(PAUSE_SECONDS)
                with trio.move_on_after(LOOK_SECONDS):
                    await self._watched.changed.wait(seen)

    def status(self) -> Registered:
        """How it stands now."""
        found = self._found
        if found is None:
            unknown = Registered(self.name, "unknown", self.api.contact.away or "it was not read yet")
            return Registered(self.name, "missing") if self._watched.synced else unknown
        if patch(found, self._bundle()):
            return Registered(self.name, "stale", self._trouble or "it is being brought up to date")
        return Registered(self.name, "current")

    @property
    def excluded(self) -> frozenset[str]:
        """Namespaces in which the webhook does nothing, as far as is known."""
        return self._found.excluded if self._found else frozenset()

    @property
    def _found(self) -> Webhooks | None:
        return self._watched.objects.get(("", self.name))

    def _bundle(self) -> str:
        """The roots of the own trust domain as the object holds them: PEM in base64."""
        return b64encode(self.authority.bundle.to_pem(self.authority.trust_domain)).decode("ascii")

    async def _repair(self) -> bool:
        """Bring the object up to date where it is not; whether there was something to do."""
        found = self._found
        if found is None:
            self._say_missing()
            return False
        self._missed = False
        changes = patch(found, self._bundle())
        if not changes:
            self._trouble = ""
            return False
        try:
            await self.api.patch(f"{PATH}/{self.name}", changes, kind="json")
        except KubernetesError as error:
            if str(error) != self._trouble:
                log.warning("caBundle cannot be brought up to date", extra=fields(name=self.name, reason=str(error)))
            self._trouble = str(error)
        else:
            self._trouble = ""
            log.info("brought caBundle up to date", extra=fields(name=self.name, webhooks=len(changes) - 1))
        return True

    def _say_missing(self) -> None:
        if self._watched.synced and not self._missed:
            self._missed = True
            log.warning(
                "there is no such MutatingWebhookConfiguration, so that no pod gets a sidecar: install the chart, or "
                "name it by --injector-webhook",
                extra=fields(name=self.name),
            )
