"""One canonicaliser for request paths: what is matched is what is forwarded (law 14).

Two readers of one path must not disagree, or a rule is dodged. So a path is brought into one form before any
match: unreserved escapes decoded, the other escapes in upper case, bytes that RFC 3986 does not let stand raw
escaped, dot segments removed, slashes merged. What no form can make safe is refused. The form is a fixed point:
whoever canonicalises it again gets it back.
Source: RFC 3986, sections 2.3 (unreserved), 3.3 (pchar), 5.2.4 (dot segments), 6.2.2 (normalisation).
"""

import re
from urllib.parse import unquote_to_bytes

from attrs import frozen

_SEGMENT = r"[A-Za-z0-9_~-][A-Za-z0-9._~-]*"
_PLAIN = re.compile(rf"/(?:{_SEGMENT}(?:/{_SEGMENT})*/?)?")  # canonical as it stands: most requests end here
_VISIBLE = re.compile(r"[\x21\x22\x24-\x7e]*")  # neither controls, space and bytes outside ASCII, nor "#"
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_ESCAPE_OR_STRANGE = re.compile(r"%([0-9A-Fa-f]{2})?|[^A-Za-z0-9._~!$&'()*+,;=:@/-]")
_ESCAPED_ESCAPE = re.compile(r"%25[0-9A-Fa-f]{2}")
_OVERLONG = re.compile(r"%(?:C[01]|E0%[89]|F0%8|F8%8[0-7]|FC%8[0-3])")
_DOTS_WITH_PARAMETER = re.compile(r"/\.\.?(?:;|%3B|%3F|%23|%20)")
_PARAMETERS = (re.compile(";[^/]*"), re.compile("(?:;|%3B)[^/]*"))  # dropped before decoding, or after it
_QUERY = re.compile("[?#]")
_REFUSED_ESCAPES = {
    **dict.fromkeys((*range(0x20), 0x7F), "an encoded control byte"),  # some readers drop them: `.%09.` becomes `..`
    0x00: "%00",
    0x2F: "an encoded slash",
    0x5C: "an encoded backslash",
}


class PathRefused(ValueError):
    """The request target has no one meaning: answer 400. The text says what stands in it, never the target itself."""


@frozen
class Target:
    """A request target in canonical form: `path` is what policy matches, `query` (None: no `?`) is left as it came."""

    path: str
    query: str | None = None

    def __str__(self) -> str:
        return self.path if self.query is None else f"{self.path}?{self.query}"


def canonical_target(raw: str | bytes) -> Target:
    """The canonical form of a target in origin-form, or of `*`. Raises PathRefused.

    Absolute-form and authority-form are the caller's to take apart or refuse first (law 15).
    """
    text = raw if isinstance(raw, str) else raw.decode("latin-1")
    path, mark, query = text.partition("?")
    if not _PLAIN.fullmatch(path):
        if text == "*":
            return Target("*")
        path = _canonical_path(path)
    if mark and not _VISIBLE.fullmatch(query):
        raise PathRefused("the query holds a '#', a space, a control byte or a byte outside ASCII")
    return Target(path, query if mark else None)


def readings(path: str) -> tuple[str, ...]:
    """The canonical `path`, and the other paths that an application may take it for.

    Many applications decode every escape, and some drop `;parameters`, before or after that, or look for a query in
    what they decoded; most hold a path with a slash at its end and one without for the same. A deny matches each
    reading, so that none dodges it. Escaped slashes cannot be in a canonical path, so segments stay segments.
    """
    if "%" not in path and ";" not in path:
        return (path, path[:-1]) if path.endswith("/") and path != "/" else (path,)
    bare = (re.sub("/{2,}", "/", parameters.sub("", path)) for parameters in _PARAMETERS)
    whole = [decoded(each) for each in (path, *bare)]
    found = dict.fromkeys((*whole, *(_QUERY.split(each, 1)[0] for each in whole)))
    return (path, *dict.fromkeys((*found, *(each.rstrip("/") or "/" for each in found))))


def decoded(text: str) -> str:
    """`text` with every escape decoded, one character per byte."""
    return unquote_to_bytes(text).decode("latin-1")


def _canonical_path(path: str) -> str:
    if not path.startswith("/"):
        raise PathRefused("the target does not start with '/'")
    if not _VISIBLE.fullmatch(path):
        raise PathRefused("the path holds a '#', a space, a control byte or a byte outside ASCII")
    if "\\" in path:
        raise PathRefused("the path holds a backslash")
    path = _ESCAPE_OR_STRANGE.sub(_one_form, path)
    if _ESCAPED_ESCAPE.search(path):
        raise PathRefused("the path holds an escape that decodes to another escape")
    if _OVERLONG.search(path):
        raise PathRefused("the path holds overlong UTF-8")
    if _DOTS_WITH_PARAMETER.search(path):
        raise PathRefused("the path holds a dot segment with a parameter, a query or a space behind it")
    return _without_dots(path)


def _one_form(found: re.Match[str]) -> str:
    """The one form of an escape, or of a byte that may not stand raw in a path."""
    text = found[0]
    if text[0] != "%":
        return f"%{ord(text):02X}"
    if found[1] is None:
        raise PathRefused("the path holds a '%' that starts no escape")
    byte = int(found[1], 16)
    if byte in _REFUSED_ESCAPES:
        raise PathRefused(f"the path holds {_REFUSED_ESCAPES[byte]}")
    return chr(byte) if byte in _UNRESERVED else text.upper()


def _without_dots(path: str) -> str:
    kept: list[str] = []
    segments = path[1:].split("/")
    for segment in segments:
        if segment == "..":
            if not kept:
                raise PathRefused("the path climbs above the root")
            if not kept.pop():
                raise PathRefused("the path holds '..' after an empty segment: readers disagree about what it removes")
        elif segment != ".":
            kept.append(segment)
    ends_open = segments[-1] in ("", ".", "..")
    named = [segment for segment in kept if segment]
    return "/" + "/".join(named) + ("/" if ends_open and named else "")
