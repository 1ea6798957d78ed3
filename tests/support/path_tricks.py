"""Spellings of a forbidden path, as data, and the readers that each of them is meant to mislead.

A path goes around policy where policy sees one that it lets pass and a server, which decodes, normalises or cuts what
it was handed, finds the forbidden one. Case, Unicode normalisation and stripped suffixes are left out: docs/security.md
says so.
"""

import itertools
import posixpath
import re
from collections.abc import Callable, Iterator
from typing import Final
from urllib.parse import unquote

FORBIDDEN: Final = "/admin/keys"

_CLIMBS: Final = (
    "..",
    "%2e%2e",
    ".%2E",
    "%2e.",
    "..;",
    "..;a=b",
    "%2e%2e%3b",
    "..%3f",
    "..%23",
    "..%20",
    "..%09",
    "%0a..",
)
_CLIMBS_ALSO: Final = (
    "..%00",
    "%252e%252e",
    "%25%32%65%2e",
    "%c0%ae%c0%ae",
    "%c0%2e%c0%2e",
    "%e0%80%ae%e0%80%ae",
    "%u002e%u002e",
)
_SLASHES: Final = (
    "/",
    "//",
    "/./",
    "%2f",
    "%2F",
    "%252f",
    "\\",
    "%5c",
    "%255c",
    "%c0%af",
    "%c1%9c",
    "%e0%80%af",
    "/%20/../",
    ";/",
)
_LETTERS: Final = (
    "%61dmin",
    "%2561dmin",
    "%25%36%31dmin",
    "a%64m%69n",
    "%c1%a1dmin",
    "admin%00",
    "ad%00min",
    "ad%0amin",
    "ad%09min",
)
_BEHIND: Final = (
    "",
    "/",
    "//",
    "/.",
    "/./",
    "/x/..",
    "/x/../",
    ";",
    ";a=b",
    ";/",
    "%3b",
    "%3ba=b",
    "%3f",
    "%3fa=b",
    "%23",
    "%23a",
)
_BEHIND += (
    "?",
    "?a",
    "?/../..",
    "?;",
    ";?a",
    "#",
    "#a",
    "%00",
    "%0a",
    "%0d%0aX:%20y",
    "%20",
    "%09",
    "/%2e",
    "/x/%2e%2e",
    "?%00",
    ";x?y#z",
)
_WHOLE: Final = ("admin/keys", "*", "?/admin/keys", "http://payments/admin/keys", "http://payments/open/../admin/keys")
_WHOLE += (
    "HTTP://payments//admin/keys",
    "http://payments?/admin/keys",
    "http://payments/open/..;/admin/keys",
    "///admin///keys",
)
_WHOLE += (
    "/;/admin/keys",
    "/;a/admin/keys",
    "/admin;a/keys;b",
    "/admin%3b/keys",
    "/admin;/../admin/keys",
    "/a;b/../admin/keys",
)
_WHOLE += (
    "/%61%64%6d%69%6e/%6b%65%79%73",
    "/open/x/../../admin/keys",
    "/open/..//admin/keys",
    "/open//../admin/keys",
    "/./admin/keys",
)
_WHOLE += (
    "/../admin/keys",
    "/..//admin/keys",
    "/admin/./keys",
    "/admin/x/../keys",
    "/admin/keys/../keys",
    "/admin/keys%2f..%2fkeys",
)


def _spellings() -> Iterator[str]:
    yield from _WHOLE
    for climb, slash in itertools.product((*_CLIMBS, *_CLIMBS_ALSO), ("/", "//", "\\", "%2f")):
        yield f"/open{slash}{climb}{slash}admin/keys"
    for slash in _SLASHES:
        yield f"/admin{slash}keys"
        yield f"/open/..{slash}admin/keys"
        yield f"{slash}admin/keys"
    for letters in _LETTERS:
        yield f"/{letters}/keys"
    for behind in _BEHIND:
        yield f"{FORBIDDEN}{behind}"


INNOCENT: Final = ("/open", "/open/x", "/open/x/", "/open/x/y;a=b", "/open/100%25", "/open/x%3Fy?z")
SPELLINGS: Final = tuple(dict.fromkeys(_spellings()))


def _without_parameters(path: str) -> str:
    return re.sub(";[^/]*", "", path)


def _merged(path: str) -> str:
    return re.sub("//+", "/", path)


def _cut(path: str) -> str:
    return re.split("[?#]", path, maxsplit=1)[0]


def _without_controls(path: str) -> str:
    return re.sub("[\0-\x1f\x7f]", "", path)


def _slashed(path: str) -> str:
    return path.replace("\\", "/")


def _normal(path: str) -> str:
    """posixpath.normpath(), which takes a slash from the end, and leaves two at the start."""
    return _merged(posixpath.normpath(path))


def _normal_and_open(path: str) -> str:
    """The same with the slash at the end kept."""
    return _normal(path) + "/" * (path.endswith("/") and path.strip("/") != "")


Step = Callable[[str], str]
_DECODING: Final[tuple[Step, ...]] = (str, unquote, lambda path: unquote(unquote(path)))
_CLEANING: Final[tuple[Step, ...]] = (_without_parameters, _merged, _cut, _without_controls, _slashed)


def naive_readings(target: str, *, closing: bool) -> set[str]:
    """Every path that careless servers find in a target: decoded never, once or twice, cleaned in some order or not.

    `closing` includes those for which a slash at the end means nothing.
    """
    found = set()
    for decode in _DECODING:
        for count in range(3):
            for steps in itertools.permutations(_CLEANING, count):
                path = decode(target.partition("?")[0])
                for step in steps:
                    path = step(path)
                found |= {path, _normal_and_open(path)} | ({_normal(path)} if closing else set())
    return found
