"""What it takes for one pod to be in the mesh, put into it: a pure function of the pod and the settings.

Injecting twice is injecting once. Whatever is not ours stays as it was, but for probes, which ask the sidecar.
"""

from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any, Final

from attrs import evolve, frozen

from control_plane.injector import annotations, containers, values
from control_plane.injector.application_ports import derived
from control_plane.injector.faults import Fault
from control_plane.injector.probes import Rewriting, Route, encoded
from control_plane.injector.settings import InjectorSettings
from control_plane.injector.shape import malformed
from control_plane.injector.standing import Skip, containers_of, refused, skipped, warnings
from control_plane.injector.wanted import Wanted
from control_plane.kubernetes.marks import INJECTED

GRACE_SECONDS: Final = 30
"""What the API server takes where a pod says nothing (core/v1, PodSpec.terminationGracePeriodSeconds)."""
BESIDE_DRAIN_SECONDS: Final = 3
"""What a sidecar needs of the grace beside its drain, to end and log what that has cut off."""
VERSION: Final = version("doorward")  # once: finding it reads files


@frozen
class Injected:
    """The pod as it has to be, and what its author should know about it."""

    pod: dict[str, Any]
    warnings: tuple[str, ...]


@frozen
class Skipped:
    """The pod stays as it is."""

    reason: Skip


@frozen
class Refused:
    """The pod cannot be in the mesh; `faults` has everything that is wrong."""

    faults: tuple[Fault, ...]


def inject(pod: Mapping[str, Any], namespace: str, settings: InjectorSettings) -> Injected | Skipped | Refused:
    """Put the sidecar into a pod of that namespace. The pod given stays as it is, and is shared in parts."""
    if faults := malformed(pod):
        return Refused(tuple(faults))
    if reason := skipped(pod, namespace):
        return Skipped(reason)
    faults += refused(pod, settings)
    metadata = pod.get("metadata") or {}
    wanted, wrong = annotations.read(metadata.get("annotations") or {}, settings)
    faults += wrong
    wanted = evolve(wanted, drain_seconds=_drain(pod["spec"], settings))
    rewriting = Rewriting(_route(settings, wanted))
    spec = _rewritten(pod["spec"], rewriting)
    faults += rewriting.faults
    if not settings.native_sidecar:
        faults += _too_early(pod["spec"], spec, wanted)
    if faults:
        return Refused(tuple(faults))
    found = (*warnings(pod), *_advice(pod, settings, wanted))
    probes = encoded(rewriting.originals) if rewriting.originals else ""
    ports = wanted.ports if wanted.ports is not None else _derived(spec, settings, wanted)
    sidecar = containers.sidecar(settings, wanted, ports, probes, native=settings.native_sidecar)
    return Injected(
        {**pod, "metadata": _marked(metadata), "spec": _assembled(spec, settings, wanted, sidecar)},
        found,
    )


def _drain(spec: Mapping[str, Any], settings: InjectorSettings) -> int:
    """How long the sidecar may drain, in seconds. A native one is told to end when all others have ended.

    A classic one is told together with them, and killed at the end of the pod's grace, whatever is in flight.
    """
    if settings.native_sidecar:
        return settings.drain_seconds
    return max(1, min(settings.drain_seconds, _grace(spec) - BESIDE_DRAIN_SECONDS))


def _grace(spec: Mapping[str, Any]) -> int:
    grace: int | None = spec.get("terminationGracePeriodSeconds")
    return GRACE_SECONDS if grace is None else grace


def _route(settings: InjectorSettings, wanted: Wanted) -> Route:
    """With redirection the application answers at the pod's own addresses, without it on loopback only."""
    if not wanted.redirect:
        return Route(settings.ports.observe, "127.0.0.1", lambda _port: False, wanted.own_ports(settings), False)
    past = values.expanded((str(settings.ports.observe), *wanted.exclude_inbound_ports))
    own = wanted.own_ports(settings)
    return Route(settings.ports.observe, "", past.__contains__, own)


def _rewritten(spec: Mapping[str, Any], rewriting: Rewriting) -> dict[str, Any]:
    changed = dict(spec)
    for key in ("initContainers", "containers"):
        if spec.get(key):
            changed[key] = [rewriting.container(each, f"spec.{key}[{index}]") for index, each in enumerate(spec[key])]
    return changed


def _too_early(own: Mapping[str, Any], changed: Mapping[str, Any], wanted: Wanted) -> Iterator[Fault]:
    """What holds up an init container until a classic sidecar answers, which starts after all of these."""
    exclude = ", or exclude the port by doorward.dev/exclude-inbound-ports" if wanted.redirect else ""
    message = f"nativeSidecar is off: the sidecar, which would ask here, starts only afterwards: write exec{exclude}"
    pairs = zip(own.get("initContainers") or (), changed.get("initContainers") or (), strict=True)
    for index, pair in enumerate(pairs):
        for key in ("startupProbe", "lifecycle.postStart"):
            before, after = (_at(each, key) for each in pair)
            if before != after:
                yield Fault(f"spec.initContainers[{index}].{key}", message)


def _at(container: Mapping[str, Any], key: str) -> object:
    outer, _, inner = key.partition(".")
    found = container.get(outer)
    return (found or {}).get(inner) if inner else found


def _derived(spec: Mapping[str, Any], settings: InjectorSettings, wanted: Wanted) -> tuple[str, ...]:
    """What the containers that run beside each other declare, without what never meets the sidecar."""
    running = [each for place, each in containers_of(spec) if "init" not in place or _runs_on(each)]
    declared = [port.get("containerPort") or 0 for each in running for port in each.get("ports") or ()]
    elsewhere = [each.port for each in map(values.read_inbound, wanted.inbound)]
    return derived(
        running, {*wanted.own_ports(settings), *elsewhere, *values.held(wanted.exclude_inbound_ports, declared)}
    )


def _assembled(
    spec: Mapping[str, Any], settings: InjectorSettings, wanted: Wanted, sidecar: Mapping[str, Any]
) -> dict[str, Any]:
    """The pod's own init containers run behind a native sidecar, and before a classic one, without redirection."""
    redirect = [containers.redirect(settings, wanted)] if wanted.redirect else []
    before, beside = list(spec.get("initContainers") or ()), list(spec["containers"])
    changed = dict(spec)
    if settings.native_sidecar:
        changed["initContainers"] = [*redirect, sidecar, *before]
    else:
        changed["containers"] = [sidecar, *beside]
        if redirect:
            changed["initContainers"] = [*before, *redirect]
    changed["volumes"] = [*(spec.get("volumes") or ()), *containers.volumes(settings)]
    return changed


def _marked(metadata: Mapping[str, Any]) -> dict[str, Any]:
    marks = {**(metadata.get("annotations") or {}), INJECTED: VERSION}
    return {**metadata, "annotations": marks}


def _advice(pod: Mapping[str, Any], settings: InjectorSettings, wanted: Wanted) -> Iterator[str]:
    """What its author should know about this pod's way into the mesh."""
    spec = pod["spec"]
    if not wanted.redirect:
        listeners = "only its explicit listeners are" if wanted.inbound or wanted.outbound else "nothing of it is"
        yield f"doorward.dev/redirect is disabled: the pod's connections are not redirected, {listeners} in the mesh"
    if settings.native_sidecar:
        return
    if any(not _runs_on(each) for each in spec.get("initContainers") or ()):
        yield "nativeSidecar is off: the pod's own init containers run before the sidecar, outside of the mesh"
    if (spec.get("restartPolicy") or "Always") != "Always":
        yield "nativeSidecar is off: the pod does not end by itself, since the sidecar runs on"
    if (grace := _grace(spec)) <= BESIDE_DRAIN_SECONDS:
        yield (
            f"nativeSidecar is off and terminationGracePeriodSeconds is {grace}: what is in flight may be cut off at "
            f"the pod's end, since the sidecar needs more than {BESIDE_DRAIN_SECONDS} s to drain"
        )
    yield "nativeSidecar is off: containers may start before the sidecar is ready, and their first connections fail"


def _runs_on(init_container: Mapping[str, Any]) -> bool:
    """Whether an init container runs beside the others, as a native sidecar of the pod's own."""
    return init_container.get("restartPolicy") == "Always"
