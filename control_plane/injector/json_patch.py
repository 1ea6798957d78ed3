"""The difference of two JSON values as a JSON Patch (RFC 6902), which says no more than what changed.

Items of a list that are maps are known by their `name`, as containers and volumes are; others by their whole value.
"""

import json
from collections.abc import Iterator
from typing import Any

Operation = dict[str, Any]


def json_patch(before: Any, after: Any) -> list[Operation]:
    """Operations that turn `before` into `after`, in the order in which they have to be done."""
    return list(_changes(before, after, ""))


def _changes(before: Any, after: Any, path: str) -> Iterator[Operation]:
    if _same(before, after):
        return
    if isinstance(before, dict) and isinstance(after, dict):
        yield from _in_map(before, after, path)
    elif isinstance(before, list) and isinstance(after, list) and (keys := _aligned(before, after)) is not None:
        yield from _in_list(before, after, path, *keys)
    else:
        yield {"op": "replace", "path": path, "value": after}


def _in_map(before: dict[str, Any], after: dict[str, Any], path: str) -> Iterator[Operation]:
    for key, value in before.items():
        below = f"{path}/{_escaped(key)}"
        if key in after:
            yield from _changes(value, after[key], below)
        else:
            yield {"op": "remove", "path": below}
    for key, value in after.items():
        if key not in before:
            yield {"op": "add", "path": f"{path}/{_escaped(key)}", "value": value}


def _in_list(before: list[Any], after: list[Any], path: str, had: list[str], has: list[str]) -> Iterator[Operation]:
    """Indexes count as the list stands at that moment: items go from the end on, and come from the start on."""
    stays, was = set(has), dict(zip(had, before, strict=True))  # lists are as long as their authors like
    for index in reversed(range(len(before))):
        if had[index] not in stays:
            yield {"op": "remove", "path": f"{path}/{index}"}
    for index, (key, value) in enumerate(zip(has, after, strict=True)):
        if key in was:
            yield from _changes(was[key], value, f"{path}/{index}")
        else:
            yield {"op": "add", "path": f"{path}/{index}", "value": value}


def _aligned(before: list[Any], after: list[Any]) -> tuple[list[str], list[str]] | None:
    """Both lists' keys; None where one item cannot be told from another, or those in both changed their order."""
    had, has = [_key(each) for each in before], [_key(each) for each in after]
    if len(set(had)) < len(had) or len(set(has)) < len(has):
        return None
    common = set(had) & set(has)
    in_order = [key for key in had if key in common] == [key for key in has if key in common]
    return (had, has) if common and in_order else None


def _key(item: Any) -> str:
    name = item.get("name") if isinstance(item, dict) else None
    return f"name {name}" if isinstance(name, str) else f"value {_text(item)}"


def _same(one: Any, other: Any) -> bool:
    return _text(one) == _text(other)  # Python's == takes True for 1, and 1 for 1.0


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _escaped(key: str) -> str:
    """One reference token of a JSON Pointer (RFC 6901 section 3)."""
    return key.replace("~", "~0").replace("/", "~1")
