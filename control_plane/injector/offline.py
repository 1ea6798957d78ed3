"""What the webhook would make of manifests, without a cluster: documents in, documents out, and what to say of each."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from attrs import evolve, frozen

from control_plane.injector.manifests import Manifest
from control_plane.injector.patch import Injected, Refused, Skipped, inject
from control_plane.injector.settings import InjectorSettings
from mesh.policy import Fault

_TEMPLATE: Final = ("spec", "template")
TEMPLATES: Final[Mapping[tuple[str, str], tuple[str, ...]]] = {
    ("", "Pod"): (),
    ("", "ReplicationController"): _TEMPLATE,
    **{("apps", kind): _TEMPLATE for kind in ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet")},
    ("batch", "Job"): _TEMPLATE,
    ("batch", "CronJob"): ("spec", "jobTemplate", "spec", "template"),
}
"""Where the pod stands in objects of each group and kind."""


@frozen
class Note:
    """Something to say of one object, which is written `Kind namespace/name`."""

    subject: str
    message: str
    warning: bool

    def __str__(self) -> str:
        return f"{self.subject}: {self.message}"


@frozen
class Outcome:
    """All documents, injected where that is to be; or `faults`, and then the documents are of no use."""

    manifests: tuple[Manifest, ...]
    notes: tuple[Note, ...]
    faults: tuple[Fault, ...]


def inject_manifests(manifests: Sequence[Manifest], namespace: str, settings: InjectorSettings) -> Outcome:
    """Inject into every pod and pod template; `namespace` is that of objects that name none."""
    made: list[Manifest] = []
    notes: list[Note] = []
    faults: list[Fault] = []
    for manifest in manifests:
        injection = _Injection(manifest, namespace, settings, notes, faults)
        content = injection.document(manifest.content, "")
        same = content is manifest.content
        made.append(manifest if same else evolve(manifest, content=content, text=None))
    return Outcome(tuple(made), tuple(notes), tuple(faults))


@frozen
class _Injection:
    """One document on its way through; what stays as it was is returned as the very same value."""

    manifest: Manifest
    namespace: str
    settings: InjectorSettings
    notes: list[Note]
    faults: list[Fault]

    def document(self, content: Any, path: str) -> Any:
        """An object, or a list of them."""
        if not isinstance(content, dict) or not isinstance(content.get("kind"), str):
            self._fault(path, "is no object of Kubernetes, which has a kind")
            return content
        items = content.get("items")
        if content["kind"].endswith("List") and isinstance(items, list):
            made = [self.document(each, f"{path}items[{index}].") for index, each in enumerate(items)]
            same = all(one is other for one, other in zip(made, items, strict=True))
            return content if same else {**content, "items": made}
        place = TEMPLATES.get((_group(content), content["kind"]))
        return content if place is None else self._object(content, place, path)

    def _object(self, content: dict[str, Any], place: Sequence[str], path: str) -> dict[str, Any]:
        pod: Any = content
        for key in place:
            pod = pod.get(key) if isinstance(pod, dict) else None
        metadata = content.get("metadata")
        own = metadata.get("namespace") if isinstance(metadata, dict) else None
        namespace = own if isinstance(own, str) and own else self.namespace
        outcome = inject(pod, namespace, self.settings)
        below = "".join(f"{key}." for key in place)
        if isinstance(outcome, Refused):
            for fault in outcome.faults:
                self._fault(f"{path}{below}{fault.path}", fault.message)
            return content
        self.notes.extend(_notes(_subject(content, namespace), outcome))
        return _with(content, place, outcome.pod) if isinstance(outcome, Injected) else content

    def _fault(self, path: str, message: str) -> None:
        self.faults.append(Fault(self.manifest.source, self.manifest.index, path.rstrip("."), message))


def _group(content: Mapping[str, Any]) -> str:
    version = content.get("apiVersion")
    return version.rpartition("/")[0] if isinstance(version, str) else ""


def _subject(content: Mapping[str, Any], namespace: str) -> str:
    metadata = content.get("metadata") or {}
    return f"{content['kind']} {namespace}/{metadata.get('name') or metadata.get('generateName') or '?'}"


def _notes(subject: str, outcome: Injected | Skipped) -> Iterator[Note]:
    if isinstance(outcome, Skipped):
        yield Note(subject, f"stays as it is: the pod {outcome.reason.message}", warning=False)
    else:
        yield from (Note(subject, each, warning=True) for each in outcome.warnings)


def _with(content: dict[str, Any], place: Sequence[str], pod: dict[str, Any]) -> dict[str, Any]:
    """The object with that pod at its place."""
    if not place:
        return pod
    return {**content, place[0]: _with(content[place[0]], place[1:], pod)}
