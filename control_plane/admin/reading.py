"""Request bodies and parameters, read strictly: bounded, no repeated key, no unknown key, no loose type.

`Body` is asked for its fields by name and type; `done()` refuses whatever was not asked for, so that a misspelt field
is an error and not a default.
"""

import json
import re
from contextlib import aclosing
from typing import Any, TypeVar

from attrs import Factory, define
from starlette.requests import Request

from control_plane.admin.problems import Problem

MAX_BODY_BYTES = 32 * 1024 * 1024
"""Above what a directory of policies may hold (control_plane.policies), as JSON."""

T = TypeVar("T")

_MISSING: Any = object()
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")  # as an escape, the only way into a text that was read as UTF-8


@define
class Body:
    """The JSON object that a request carried."""

    fields: dict[str, Any]
    _asked: set[str] = Factory(set)

    def get(self, name: str, kind: type[T], default: T = _MISSING) -> T:
        """The field `name`, which must be exactly of type `kind`; the default where it is absent. Raises Problem."""
        self._asked.add(name)
        value = self.fields.get(name, default)
        if value is _MISSING:
            raise Problem(400, "missing_field", f"the field {name!r} is missing")
        if type(value) is not kind and value is not default:
            raise Problem(400, "wrong_type", f"the field {name!r} must be of type {kind.__name__}")
        return value

    def optional(self, name: str, kind: type[T]) -> T | None:
        """As `get`, with None for absent or null."""
        if self.fields.get(name) is None:
            self._asked.add(name)
            return None
        return self.get(name, kind)

    def done(self) -> None:
        """Raises Problem where the body holds a field that nobody asked for."""
        unknown = sorted(set(self.fields) - self._asked)
        if unknown:
            known = ", ".join(sorted(self._asked))
            raise Problem(400, "unknown_field", f"unknown field {unknown[0][:80]!r}; known are: {known}")


async def read_body(request: Request) -> Body:
    """The request's body. Raises Problem where it is too large, no JSON or no object."""
    content = bytearray()
    async with aclosing(request.stream()) as parts:
        async for part in parts:
            content += part
            if len(content) > MAX_BODY_BYTES:
                raise Problem(413, "body_too_large", f"a request has at most {MAX_BODY_BYTES} bytes")
    try:
        value = json.loads(content.decode(), object_pairs_hook=_no_repeats, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Problem(400, "not_json", f"the body is not the JSON that is expected: {str(error)[:200]}") from error
    if _SURROGATE.search(content) and not _is_unicode(value):
        raise Problem(400, "bad_text", "the body holds a text that is not valid Unicode")
    if not isinstance(value, dict):
        raise Problem(400, "not_json", "the body must be a JSON object")
    return Body(value)


def query_int(request: Request, name: str, default: int, *, least: int, most: int) -> int:
    """A whole number from the query string, within bounds. Raises Problem."""
    text = request.query_params.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 16 and least <= int(text) <= most):
        raise Problem(400, "bad_parameter", f"{name} must be a whole number from {least} to {most}")
    return int(text)


def _is_unicode(value: object) -> bool:
    """Whether every text in it can be written: a lone surrogate could be neither stored nor answered."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return result


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
