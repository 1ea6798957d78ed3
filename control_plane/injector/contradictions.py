"""What a pod's annotations cannot mean together, or with the settings: each would stop the sidecar from starting."""

from collections.abc import Collection, Iterator

from control_plane.injector import values
from control_plane.injector.settings import InjectorSettings
from control_plane.injector.values import Place
from control_plane.injector.wanted import Wanted

_ONLY_REDIRECTED = (
    "ports",
    "exclude-inbound-ports",
    "exclude-outbound-ports",
    "exclude-outbound-addresses",
    "egress",
)


def contradictions(wanted: Wanted, given: Collection[str], settings: InjectorSettings) -> Iterator[tuple[str, str]]:
    """The annotation's name, without prefix, and what is wrong with it. `given` names those that the pod has."""
    own = settings.ports
    if not wanted.redirect:
        for name in (each for each in _ONLY_REDIRECTED if each in given):
            yield name, "means nothing where doorward.dev/redirect is disabled: leave one of them out"
    for port in values.held(wanted.exclude_inbound_ports, (own.inbound, own.outbound)):
        yield "exclude-inbound-ports", f"{port} is a port of the sidecar itself, which nobody may call directly"
    yield from _ports(wanted, settings)
    yield from _listeners(wanted, settings)


def _ports(wanted: Wanted, settings: InjectorSettings) -> Iterator[tuple[str, str]]:
    own, excluded = wanted.own_ports(settings), values.expanded(wanted.exclude_inbound_ports)
    spoken = {each.port: each.protocol for each in map(values.read_inbound, wanted.inbound)}
    for declared in wanted.ports or ():
        number, _, protocol = declared.partition("/")
        port = int(number)
        if port in own:
            yield "ports", f"{declared} is a port of the sidecar itself: write a port where the application listens"
        if port in excluded:
            yield (
                "ports",
                f"{declared} is an excluded inbound port too, which the sidecar never sees: write one of both",
            )
        if spoken.setdefault(port, protocol) != protocol:
            yield "ports", f"port {port} is declared {spoken[port]} and {protocol}: write one"


def _listeners(wanted: Wanted, settings: InjectorSettings) -> Iterator[tuple[str, str]]:
    ports = settings.ports
    binds = [Place("0.0.0.0", each) for each in (ports.inbound, ports.outbound, ports.observe)]  # noqa: S104  # compared
    for name, listeners in (("inbound", wanted.inbound), ("outbound", wanted.outbound)):
        for bind in filter(None, map(values.bind_of, listeners)):
            if any(bind.collides(other) for other in binds):
                yield name, f"port {bind.port} is taken by another listener of this sidecar: choose another one"
            binds.append(bind)
    inbounds = [values.read_inbound(each) for each in wanted.inbound]
    for port in (each.application.port for each in inbounds if any(map(each.application.reaches, binds))):
        yield "inbound", f"port {port} is a listener of this sidecar: write where the application listens"
    for port, protocols in _by_port(inbounds).items():
        if len(protocols) > 1:
            yield "inbound", f"port {port} is declared {' and '.join(protocols)}: write one"


def _by_port(inbounds: list[values.Inbound]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for each in inbounds:
        if each.protocol not in found.setdefault(each.port, []):
            found[each.port].append(each.protocol)
    return found
