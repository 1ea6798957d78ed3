"""A pod's own wishes, `doorward.dev/…` annotations, checked and laid over the settings, with every fault at once.

What is merely wrong is told by `control_plane.injector.values`; `contradictions` adds what the sidecar or its
redirection would refuse later, when nobody looks.
"""

import difflib
import re
from collections.abc import Mapping
from typing import Any, Final

from attrs import evolve, frozen

from control_plane.injector import values
from control_plane.injector.contradictions import contradictions
from control_plane.injector.faults import Fault, shown
from control_plane.injector.settings import InjectorSettings, Resources
from control_plane.injector.values import Kind
from control_plane.injector.wanted import Wanted
from control_plane.kubernetes.marks import INJECTED, PREFIX

MAX_CHARACTERS: Final = 4096
"""Of one annotation. Its values are compared with each other and with the pod's ports."""
MAX_HINTS: Final = 10
"""Unknown annotations for which a known one is searched that looks alike."""


@frozen
class _Annotation:
    kind: Kind
    attribute: str = ""
    """Of Wanted; empty for resources."""
    several: "re.Pattern[str] | None" = None
    """What stands between several values; None for one value."""
    adds: bool = False
    """Whether it adds to what the settings say, where others replace that."""


_COMMAS: Final = re.compile(r"[,\s]+")
_SPACES: Final = re.compile(r"\s+")
_RESOURCES: Final = {
    f"{resource}-{bound}": (resource, f"{bound}s") for resource in ("cpu", "memory") for bound in ("request", "limit")
}

ANNOTATIONS: Final[Mapping[str, _Annotation]] = {
    "ports": _Annotation(values.DECLARED_PORT, "ports", _COMMAS),
    "exclude-inbound-ports": _Annotation(values.PORTS, "exclude_inbound_ports", _COMMAS, adds=True),
    "exclude-outbound-ports": _Annotation(values.PORTS, "exclude_outbound_ports", _COMMAS, adds=True),
    "exclude-outbound-addresses": _Annotation(values.NETWORK, "exclude_outbound_addresses", _COMMAS, adds=True),
    "egress": _Annotation(values.EGRESS, "egress"),
    "redirect": _Annotation(values.one_of("enabled", "disabled"), "redirect"),
    "inbound": _Annotation(values.INBOUND, "inbound", _SPACES),
    "outbound": _Annotation(values.OUTBOUND, "outbound", _SPACES),
    **{name: _Annotation(values.QUANTITY) for name in _RESOURCES},
    "log-level": _Annotation(values.LOG_LEVEL, "log_level"),
    "request-log": _Annotation(values.REQUEST_LOG, "request_log"),
}
"""Every annotation that a pod may carry, without the prefix."""


def read(annotations: Mapping[str, Any], settings: InjectorSettings) -> tuple[Wanted, list[Fault]]:
    """What this pod gets, and what is wrong with what it asks for."""
    faults: list[Fault] = []
    given: dict[str, tuple[str, ...]] = {}
    for key, value in annotations.items():
        if not key.startswith(PREFIX) or key == INJECTED:
            continue
        name = key.removeprefix(PREFIX)
        annotation = ANNOTATIONS.get(name)
        if annotation is None:
            faults.append(Fault(place(name), _unknown(name, hint=len(faults) < MAX_HINTS)))
        elif (taken := _values(annotation, value, place(name), faults)) is not None:
            given[name] = taken
    wanted, resource_faults = _laid_over(given, settings)
    faults += resource_faults
    if not faults:
        faults += [Fault(place(name), message) for name, message in contradictions(wanted, given, settings)]
    return wanted, faults


def place(name: str) -> str:
    """Where that annotation stands in a pod."""
    return f"metadata.annotations[{PREFIX}{name}]"


def _unknown(name: str, *, hint: bool) -> str:
    if name == "inject":
        return "is a label, no annotation: metadata.labels[doorward.dev/inject]: disabled keeps a pod out of the mesh"
    near = difflib.get_close_matches(name, ANNOTATIONS, n=1) if hint else []
    help_ = f"did you mean {PREFIX}{near[0]}?" if near else "the annotations are " + ", ".join(ANNOTATIONS)
    return f"is unknown: {help_}"


def _values(annotation: _Annotation, text: object, path: str, faults: list[Fault]) -> tuple[str, ...] | None:
    """The values, checked; None after a fault."""
    accepted = annotation.kind.accepted
    if not isinstance(text, str):
        faults.append(Fault(path, f"{shown(text)} is no text: write {accepted}"))
        return None
    if len(text) > MAX_CHARACTERS:
        faults.append(Fault(path, f"is longer than {MAX_CHARACTERS} characters: write {accepted}"))
        return None
    words = [word for word in annotation.several.split(text) if word] if annotation.several else [text.strip()]
    found = []
    for word in words:
        try:
            found.append(annotation.kind.check(word))
        except ValueError as error:
            faults.append(Fault(path, f"{shown(word)} {error}: write {accepted}"))
    return tuple(found) if len(found) == len(words) else None


def _laid_over(given: Mapping[str, tuple[str, ...]], settings: InjectorSettings) -> tuple[Wanted, list[Fault]]:
    wanted = Wanted.by(settings)
    changes: dict[str, Any] = {}
    for name, texts in given.items():
        annotation = ANNOTATIONS[name]
        if name == "redirect":
            changes["redirect"] = texts == ("enabled",)
        elif annotation.adds:
            changes[annotation.attribute] = tuple(dict.fromkeys((*getattr(wanted, annotation.attribute), *texts)))
        elif annotation.attribute:
            changes[annotation.attribute] = tuple(dict.fromkeys(texts)) if annotation.several else texts[0]
    resources, faults = _resources(given, settings.resources.sidecar)
    return evolve(wanted, **changes, resources=resources), faults


def _resources(given: Mapping[str, tuple[str, ...]], default: Resources) -> tuple[Resources, list[Fault]]:
    """The sidecar's resources. A request or limit that was not asked for gives way to the other one that was."""
    asked: dict[str, dict[str, str]] = {"requests": {}, "limits": {}}
    for name, (resource, bound) in _RESOURCES.items():
        if name in given:
            asked[bound][resource] = given[name][0]
    faults = [
        Fault(place(f"{each}-request"), f"is above {PREFIX}{each}-limit: write at most that")
        for each in values.above_limit(asked["requests"], asked["limits"])
    ]
    requests, limits = {**default.requests, **asked["requests"]}, {**default.limits, **asked["limits"]}
    for each in values.above_limit(requests, limits):
        if each in asked["limits"]:
            requests[each] = limits[each]
        else:
            limits[each] = requests[each]
    return Resources(requests, limits), faults
