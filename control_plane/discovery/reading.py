"""Values out of the JSON of an API server. What is missing or null has a default; what is something else is refused.

An API server checks what it stores against a schema, yet clusters have aggregated and broken ones: one object that
makes no sense is left out and said, and costs nothing else.
"""

from ipaddress import IPv6Address, ip_address
from typing import Any, TypeVar

from certs.spiffe import MAX_NAME_BYTES

T = TypeVar("T")


class ObjectRefused(ValueError):
    """An object of the cluster makes no sense. The text names the field."""


def value(raw: object, path: str, kind: type[T], default: T) -> T:
    """What stands at a path such as `spec.hostNetwork`; the default where it, or anything on the way, is missing.

    Raises ObjectRefused where it is of another type than `kind`.
    """
    found: Any = raw
    for step in path.split("."):
        if found is None:
            return default
        if not isinstance(found, dict):
            raise ObjectRefused(f"{path}: there is something else on the way to it")
        found = found.get(step)
    if found is None:
        return default
    if type(found) is not kind:
        raise ObjectRefused(f"{path}: expected {kind.__name__}, got {type(found).__name__}")
    return found


def text(raw: object, path: str) -> str:
    """A name or address that must be there. Raises ObjectRefused."""
    found = value(raw, path, str, "")
    if not found:
        raise ObjectRefused(f"{path} is missing")
    if len(found) > MAX_NAME_BYTES:
        raise ObjectRefused(f"{path} is longer than {MAX_NAME_BYTES} characters")
    return found


def maps(raw: object, path: str) -> list[dict[str, Any]]:
    """A list of objects, empty where it is missing. Raises ObjectRefused."""
    found: list[Any] = value(raw, path, list, [])
    if not all(isinstance(each, dict) for each in found):
        raise ObjectRefused(f"{path}: expected a list of objects")
    return found


def texts(raw: object, path: str) -> list[str]:
    """A list of texts, empty where it is missing. Raises ObjectRefused."""
    found: list[Any] = value(raw, path, list, [])
    if not all(isinstance(each, str) for each in found):
        raise ObjectRefused(f"{path}: expected a list of texts")
    return found


def port(number: int, path: str) -> int:
    """A TCP port. Raises ObjectRefused."""
    if not 1 <= number <= 65535:
        raise ObjectRefused(f"{path}: {number} is no port")
    return number


def address(spelled: str, path: str) -> str:
    """An IP address in its one spelling. Raises ObjectRefused, also for one with a zone."""
    try:
        found = ip_address(spelled)
    except ValueError:
        raise ObjectRefused(f"{path}: {spelled[:80]!r} is no IP address") from None
    if isinstance(found, IPv6Address):
        if found.scope_id is not None:
            raise ObjectRefused(f"{path}: {spelled[:80]!r} has a zone")
        return str(found.ipv4_mapped or found)
    return str(found)
