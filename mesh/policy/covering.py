"""Whether all calls that one policy matches are matched by another: what `lint` needs to find rules without effect.

The answer is safe, not complete: True only where it is certain. Unions (two policies that only together cover a
third) are not looked for.
"""

from ipaddress import IPv4Network, IPv6Network

from mesh.policy.model import EVERY, Destination, HttpRule, Source, UnauthenticatedSource, WorkloadSource
from mesh.policy.patterns import PathPattern

Http = tuple[HttpRule, ...] | None


def target_covers(wide: Destination, narrow: Destination) -> bool:
    """Whether every workload and port of `narrow` is one of `wide`."""
    workload = wide.workload in (EVERY, narrow.workload)
    return workload and (not wide.ports or (bool(narrow.ports) and set(narrow.ports) <= set(wide.ports)))


def targets_meet(one: Destination, other: Destination) -> bool:
    """Whether some workload and port is in both."""
    workload = EVERY in (one.workload, other.workload) or one.workload == other.workload
    return workload and (not one.ports or not other.ports or bool(set(one.ports) & set(other.ports)))


def sources_cover(wide: tuple[Source, ...], narrow: tuple[Source, ...]) -> bool:
    """Whether every caller of `narrow` is one of `wide`."""
    return all(any(_source_covers(each, clause) for each in wide) for clause in narrow)


def http_covers(wide: Http, narrow: Http) -> bool:
    """Whether all traffic of `narrow` (None: any, raw TCP included) is of `wide`."""
    if wide is None:
        return True
    return narrow is not None and all(any(rule_covers(each, rule) for each in wide) for rule in narrow)


def rule_covers(wide: HttpRule, narrow: HttpRule) -> bool:
    """Whether every request of `narrow` is one of `wide`."""
    methods = not wide.methods or (bool(narrow.methods) and set(narrow.methods) <= set(wide.methods))
    return methods and (not wide.paths or (bool(narrow.paths) and _paths_cover(wide.paths, narrow.paths)))


def _paths_cover(wide: tuple[str, ...], narrow: tuple[str, ...]) -> bool:
    wider = [PathPattern.parse(path) for path in wide]
    return all(any(_pattern_covers(each, PathPattern.parse(path)) for each in wider) for path in narrow)


def _pattern_covers(wide: PathPattern, narrow: PathPattern) -> bool:
    long_enough = len(narrow.segments) + narrow.rest > len(wide.segments)
    fits = long_enough if wide.rest else not narrow.rest and len(narrow.segments) == len(wide.segments)
    return fits and all(
        segment == want if want is not None else segment != ""
        for segment, want in zip(narrow.segments, wide.segments, strict=False)  # what `/*` covers is left over
    )


def _source_covers(wide: Source, narrow: Source) -> bool:
    match wide, narrow:
        case WorkloadSource(), WorkloadSource():
            return wide.namespace == narrow.namespace and wide.workload in (EVERY, narrow.workload)
        case UnauthenticatedSource(), UnauthenticatedSource():
            return not wide.addresses or (
                bool(narrow.addresses)
                and all(any(_network_covers(each, inner) for each in wide.addresses) for inner in narrow.addresses)
            )
    return wide == narrow


def _network_covers(wide: object, narrow: object) -> bool:
    match wide, narrow:
        case IPv4Network(), IPv4Network():
            return narrow.subnet_of(wide)
        case IPv6Network(), IPv6Network():
            return narrow.subnet_of(wide)
    return False
