"""One canonical form for request paths, a fixed point, and a refusal for what has no one meaning."""

import re
from urllib.parse import quote, unquote_to_bytes

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mesh.policy.clauses import HttpClause
from mesh.policy.decision import HttpFacts
from mesh.policy.model import HttpRule
from mesh.policy.paths import PathRefused, Target, canonical_target, readings
from tests.support.examples import examples
from tests.support.path_readers import SERVERS

PIECES = ["/", ".", "..", "%2e", "%2E%2e", "a", "B", "%41", "%7e", "%c3%a9", "%25", "%", "%2f", "%5C", "\\", ";", "x=1"]
PIECES += ["%3b", "{", "}", "|", '"', "*", "@", "%40", "2", "e", "%00", "#", "é", " ", "//", "~", "%C0%AF", "%e0%80%af"]
targets = st.lists(st.sampled_from(PIECES), max_size=12).map("".join).map(lambda text: "/" + text)
paths = st.one_of(targets, st.text(max_size=20), st.text(max_size=20).map(lambda text: "/" + text))


@pytest.mark.parametrize(
    ("raw", "path", "query"),
    [
        ("/", "/", None),
        ("/charges", "/charges", None),
        ("/charges/", "/charges/", None),
        ("/charges?", "/charges", ""),
        ("/charges?a=%zz&b=../..//?c", "/charges", "a=%zz&b=../..//?c"),
        ("/%63harges", "/charges", None),
        ("/%7euser", "/~user", None),
        ("/caf%c3%a9", "/caf%C3%A9", None),
        ("/a%3ab", "/a%3Ab", None),
        ("/a%2520b", None, None),
        ("/100%25", "/100%25", None),
        ("//a///b//", "/a/b/", None),
        ("/a/./b", "/a/b", None),
        ("/a/.", "/a/", None),
        ("/a/b/..", "/a/", None),
        ("/a/..", "/", None),
        ("/a/../b", "/b", None),
        ("/a/%2e%2E/b", "/b", None),
        ("/.well-known/x", "/.well-known/x", None),
        ("/a/...", "/a/...", None),
        ("/a;v=1/b", "/a;v=1/b", None),
        ('/{id}|"', "/%7Bid%7D%7C%22", None),
        ("/[1]", "/%5B1%5D", None),
        ("*", "*", None),
    ],
)
def test_a_target_is_brought_into_one_form(raw: str, path: str | None, query: str | None) -> None:
    if path is None:
        with pytest.raises(PathRefused):
            canonical_target(raw)
    else:
        assert canonical_target(raw) == canonical_target(raw.encode()) == Target(path, query)


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        ("", "does not start with '/'"),
        ("charges", "does not start with '/'"),
        ("http://payments/charges", "does not start with '/'"),
        ("*?a", "does not start with '/'"),
        ("/a%00", "%00"),
        ("/a\\b", "backslash"),
        ("/a%5cb", "encoded backslash"),
        ("/a/.%09./b", "encoded control byte"),
        ("/a%0d%0ab", "encoded control byte"),
        ("/a%7F", "encoded control byte"),
        ("/a%2Fb", "encoded slash"),
        ("/a%2fb", "encoded slash"),
        ("/a%", "starts no escape"),
        ("/a%2", "starts no escape"),
        ("/a%zz", "starts no escape"),
        ("/a%u002e", "starts no escape"),
        ("/%252e%252e/", "another escape"),
        ("/%25%32%65", "another escape"),
        ("/%C0%AE", "overlong"),
        ("/%c1%9c", "overlong"),
        ("/%E0%80%AF", "overlong"),
        ("/%F0%80%80%AF", "overlong"),
        ("/%F8%80%80%80%AF", "overlong"),
        ("/%FC%80%80%80%80%AF", "overlong"),
        ("/a#b", "'#'"),
        ("/a?b#c", "'#'"),
        ("/a?b c", "space"),
        ("/a?\x7f", "control"),
        ("/a b", "space"),
        ("/a\n", "control"),
        ("/a\r\nHost: x", "control"),
        ("/é", "outside ASCII"),
        ("/a/..;/b", "dot segment with a parameter"),
        ("/a/.;x/b", "dot segment with a parameter"),
        ("/a/%2e%2e;/b", "dot segment with a parameter"),
        ("/a/..%3b/b", "dot segment with a parameter"),
        ("/a/..%3f/b", "dot segment with a parameter"),
        ("/a/.%23", "dot segment with a parameter"),
        ("/a/..%20/b", "dot segment with a parameter"),
        ("/..", "climbs"),
        ("/a/../..", "climbs"),
        ("/./..", "climbs"),
        ("/a//../b", "after an empty segment"),
        ("/a//b/../..", "after an empty segment"),
    ],
)
def test_a_target_without_one_meaning_is_refused(raw: str, why: str) -> None:
    with pytest.raises(PathRefused, match=re.escape(why)) as caught:
        canonical_target(raw)
    assert raw not in str(caught.value) or len(raw) < 5  # a refusal never reflects what it refused


@given(st.one_of(paths, st.binary(max_size=20)))
@examples(300)
@example("/%25%32%65")
@example("/a/%2e%2e/%2e./b")
def test_whatever_comes_in_is_refused_or_gets_one_form_that_stays(raw: str | bytes) -> None:
    try:
        target = canonical_target(raw)
    except PathRefused:
        return
    assert canonical_target(str(target)) == target


@given(targets)
@examples(300)
def test_a_canonical_path_holds_nothing_that_readers_disagree_about(raw: str) -> None:
    try:
        path = canonical_target(raw).path
    except PathRefused:
        return
    assert path.startswith("/")
    assert "//" not in path
    assert not {"\\", "#", "?", " "} & set(path)
    once = unquote_to_bytes(path)
    assert not {b".", b".."} & {segment.split(b";")[0] for segment in once.split(b"/")}, (
        "a decoding reader sees no dots"
    )
    assert once.count(b"/") == path.count("/"), "decoding makes no new segment"
    assert not re.search(rb"%[0-9A-Fa-f]{2}", once), "decoding twice is decoding once"


@given(targets)
@examples(300)
def test_escaping_more_of_a_path_does_not_change_its_form(raw: str) -> None:
    """An unreserved character means the same escaped, in either case of the hexadecimal digits."""
    try:
        canonical = canonical_target(raw)
    except PathRefused:
        return
    spelt_out = re.sub(r"%..|[A-Za-z0-9._~-]", _spell_out, canonical.path)
    assert canonical_target(spelt_out).path == canonical.path


def _spell_out(found: re.Match[str]) -> str:
    return found[0] if len(found[0]) > 1 else f"%{ord(found[0]):02x}"


@pytest.mark.parametrize(
    ("path", "others"),
    [
        ("/a/b", ()),
        ("/a;x=1/b", ("/a;x=1/b", "/a/b")),
        ("/user%40x", ("/user@x",)),
        ("/a%3Bx/b", ("/a;x/b", "/a/b")),
        ("/a/;x/b", ("/a/;x/b", "/a/b")),
        ("/a%3Bx/b;y", ("/a;x/b;y", "/a;x/b", "/a/b")),
        ("/", ()),
        ("/a/", ("/a",)),
        ("/a%3Fb", ("/a?b", "/a")),
        ("/a/%23b", ("/a/#b", "/a/", "/a")),
    ],
)
def test_readings_are_what_an_application_may_take_a_path_for(path: str, others: tuple[str, ...]) -> None:
    assert readings(path) == (path, *others)


@pytest.mark.parametrize(
    ("trick", "fallen_for_by"),
    [
        ("/open/../admin", "nginx"),
        ("/open/%2e%2e/admin", "browser"),
        ("/open/..%2fadmin", "go"),
        ("/open/..;/admin", "tomcat"),
        ("/open/..;x=1/admin", "tomcat"),
        ("/open/..%5cadmin", "iis"),
        ("/open\\..\\admin", "browser"),
        ("/open/%252e%252e/admin", "iis"),
        ("/open/%c0%ae%c0%ae/admin", "iis"),
        ("/open/../../admin", "go"),
        ("//open//..//admin", "nginx"),
    ],
)
def test_a_trick_that_a_server_falls_for_does_not_reach_it_as_it_was_meant(trick: str, fallen_for_by: str) -> None:
    assert SERVERS[fallen_for_by](trick) == "/admin"
    try:
        path = canonical_target(trick).path
    except PathRefused:
        return
    assert path == "/admin", "what is matched is what is read"


@given(targets)
@examples(500)
def test_no_server_reads_a_canonical_path_in_another_way(raw: str) -> None:
    """But for `;parameters` and a slash at the end, about which servers differ and docs/security.md warns."""
    try:
        path = canonical_target(raw).path
    except PathRefused:
        return
    bare = _without_parameters(path)
    meant = {path, _decoded(path), _decoded(bare), _without_parameters(_decoded(path))}
    for server, read in SERVERS.items():
        reading = read(path)
        assert reading is None or _closed(reading) in {_closed(each) for each in meant}, server


@given(targets, st.data())
@examples(300)
def test_no_servers_reading_of_a_path_gets_around_a_deny(raw: str, data: st.DataObject) -> None:
    try:
        path = canonical_target(raw).path
    except PathRefused:
        return
    server = data.draw(st.sampled_from(sorted(SERVERS)))
    reading = SERVERS[server](path)
    if reading is None:
        return
    pattern = data.draw(_patterns_that_match(reading, slash=path.endswith("/") or reading.endswith("/")))
    assert HttpClause.compile(HttpRule((), (pattern,))).denies(HttpFacts("GET", path)), (server, pattern)


@st.composite
def _patterns_that_match(draw: st.DrawFn, reading: str, *, slash: bool) -> str:
    """A pattern that an author would write for what a server looks up."""
    segments = [_escaped(each) for each in _closed(reading)[1:].split("/")]
    named = [f"{{n{number}}}" if each and draw(st.booleans()) else each for number, each in enumerate(segments)]
    kept = draw(st.integers(0, len(named)))
    if kept < len(named):
        return "/" + "/".join([*named[:kept], "*"])
    return "/" + "/".join(named) + "/" * (slash and named != [""])


def _escaped(segment: str) -> str:
    return canonical_target("/" + quote(_decoded(segment), safe="!$&'()+,;=:@", encoding="latin-1")).path[1:]


def _decoded(path: str) -> str:
    return unquote_to_bytes(path.encode("latin-1")).decode("latin-1")


def _without_parameters(path: str) -> str:
    return re.sub("//+", "/", re.sub(";[^/]*", "", path))


def _closed(path: str) -> str:
    return path.rstrip("/") or "/"
