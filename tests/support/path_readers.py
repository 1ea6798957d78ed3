"""How common servers read the path of a request line: naive models, written from their documentation and sources.

    SERVERS     by name: a function from a path as it stands in the request line to what routes and files are looked
                up by (one character per byte), or None where the server refuses the request itself

Each model is the laxest configuration that is in common use. None shares code with what it is used to test.
"""

import posixpath
import re
from collections.abc import Callable
from urllib.parse import unquote_to_bytes

Reader = Callable[[str], str | None]

_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


def _decoded(text: str) -> str:
    return unquote_to_bytes(text.encode("latin-1", "replace")).decode("latin-1")


def _merged(text: str) -> str:
    return re.sub("//+", "/", text)


def _resolved(text: str) -> str | None:
    """Without dot segments; None where it climbs above the root."""
    kept: list[str] = []
    segments = text.split("/")[1:]
    for segment in segments:
        if segment == "..":
            if not kept:
                return None
            kept.pop()
        elif segment != ".":
            kept.append(segment)
    open_end = segments[-1:] in (["."], [".."]) and bool(kept)
    return "/" + "/".join(kept) + "/" * open_end


def nginx(path: str) -> str | None:
    """ngx_http_parse_complex_uri: decodes, then sees slashes and dots, whether they were escaped or not."""
    path = path.partition("#")[0]
    if _BROKEN_ESCAPE.search(path) or "\0" in _decoded(path):
        return None
    return _resolved(_merged(_decoded(path)))


def apache(path: str) -> str | None:
    """ap_normalize_path and ap_unescape_url, with AllowEncodedSlashes Off and MergeSlashes On."""
    if _BROKEN_ESCAPE.search(path) or re.search("%(2f|00)", path, re.IGNORECASE):
        return None
    return _resolved(_merged(_decoded(path)))


def go(path: str) -> str | None:
    """url.ParseRequestURI and the cleanPath of ServeMux: a trailing slash stays, what climbs above the root is lost."""
    if _BROKEN_ESCAPE.search(path) or re.search(r"[\0-\x20\x7f]", path):
        return None
    text = _merged(_decoded(path))
    cleaned = _merged(posixpath.normpath(text))
    return cleaned + "/" * (text.endswith("/") and cleaned != "/")


def python(path: str) -> str | None:
    """http.server and many a small framework: posixpath.normpath after unquote, so that no trailing slash stays."""
    return _merged(posixpath.normpath(_decoded(path.partition("#")[0])))


def tomcat(path: str) -> str | None:
    """CoyoteAdapter: drops `;parameters`, then decodes, turns backslashes, merges slashes and resolves dots."""
    bare = re.sub(";[^/]*", "", path)
    if _BROKEN_ESCAPE.search(bare) or "\0" in _decoded(bare):
        return None
    return _resolved(_merged(_decoded(bare).replace("\\", "/")))


def spring(path: str) -> str | None:
    """Behind servers that decode first, `;parameters` are dropped from what was decoded; slashes are merged last."""
    return _merged(re.sub(";[^/]*", "", _resolved(_decoded(path)) or "/"))


def express(path: str) -> str | None:
    """serve-static: decodeURIComponent, which refuses what is no UTF-8, and path.normalize."""
    try:
        unquote_to_bytes(path).decode()
    except UnicodeDecodeError:
        return None
    if _BROKEN_ESCAPE.search(path) or "\0" in _decoded(path):
        return None
    text = _decoded(path)
    return _merged(posixpath.normpath(text)) + "/" * (text.endswith("/") and len(text) > 1)


def browser(path: str) -> str | None:
    """The URL parser of WHATWG, which Node has too: backslashes are slashes, `%2e` is a dot, nothing is decoded."""
    text = re.sub("[\t\r\n]", "", path.partition("#")[0]).replace("\\", "/")
    dots = "/".join(
        re.sub("%2e", ".", each, flags=re.IGNORECASE) if _is_dots(each) else each for each in text.split("/")
    )
    return _resolved(dots)


def _is_dots(segment: str) -> bool:
    return re.fullmatch(r"(\.|%2e){1,2}", segment, re.IGNORECASE) is not None


def iis(path: str) -> str | None:
    """With double escaping allowed: decodes twice, overlong UTF-8 too; backslashes are slashes."""
    text = _decoded(_decoded(path))
    text = re.sub("[\xc0\xc1][\x80-\xbf]", lambda found: chr((ord(found[0][0]) & 1) << 6 | ord(found[0][1]) & 63), text)
    return _resolved(_merged(text.replace("\\", "/")))


SERVERS: dict[str, Reader] = {
    each.__name__: each for each in (nginx, apache, go, python, tomcat, spring, express, browser, iis)
}
