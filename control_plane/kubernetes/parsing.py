"""JSON of the API server, whatever people have put into their objects.

The API server takes ten thousand lists within each other where a custom resource keeps unknown fields, and Python's
parser gives up at a thousand: one such object would hide all others of its kind. What is nested so deeply is read as
null, since nothing that anybody here asks for stands there.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, Final

MAX_DEPTH: Final = 100

_TOKEN: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]', re.DOTALL)


def parse(data: bytes | bytearray) -> Any:
    """The value that `data` holds. Raises ValueError where it is no JSON."""
    try:
        return json.loads(data)
    except RecursionError:
        return json.loads(b"".join(_shallow(bytes(data))))


def _shallow(data: bytes) -> Iterator[bytes]:
    """`data` with null in place of each list and map that stands below MAX_DEPTH others."""
    depth = begin = 0
    for token in _TOKEN.finditer(data):
        if token[0] in (b"[", b"{"):
            depth += 1
            if depth == MAX_DEPTH + 1:
                yield data[begin : token.start()] + b"null"
        elif token[0] in (b"]", b"}"):
            if depth == MAX_DEPTH + 1:
                begin = token.end()
            depth -= 1
    if depth <= MAX_DEPTH:
        yield data[begin:]
