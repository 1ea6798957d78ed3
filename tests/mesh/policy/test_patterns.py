"""Path patterns: exact, `{name}`, trailing `/*`; by segment, and agreeing with a plain reference."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.policy.patterns import PathPattern, PathPatterns, PatternMalformed
from tests.support.examples import examples

segments = st.sampled_from(["a", "b", "charges", "%3A", "x.y", "{id}", "{other}"])
pattern_texts = st.builds(
    lambda parts, end: "/" + "/".join([*dict.fromkeys(parts), *end]),
    st.lists(segments, max_size=4),
    st.sampled_from([[], ["*"], [""]]),
).filter(lambda text: "//" not in text)
paths = st.lists(st.sampled_from(["a", "b", "charges", "%3A", "x.y", "7", ""]), min_size=1, max_size=6).map(
    lambda parts: re.sub("/+", "/", "/" + "/".join(parts))
)


def reference(pattern: str, path: str) -> bool:
    """What a pattern means, said as a regular expression."""
    text = "".join("[^/]+" if part.startswith("{") else re.escape(part) for part in re.split(r"(\{\w+\})", pattern))
    text = re.sub(r"/\\\*$", "/.*", text)
    return re.fullmatch(text, path) is not None


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("/", ["/"], ["/a", "*"]),
        ("/charges", ["/charges"], ["/charges/", "/charges/1", "/Charges", "/"]),
        ("/charges/", ["/charges/"], ["/charges", "/charges/1"]),
        ("/charges/{id}", ["/charges/1", "/charges/%3A"], ["/charges", "/charges/", "/charges/1/", "/charges/1/x"]),
        ("/charges/{id}/refund", ["/charges/1/refund"], ["/charges/refund", "/charges/1/2/refund"]),
        ("/charges/*", ["/charges/", "/charges/1", "/charges/1/refund", "/charges/1/"], ["/charges", "/chargesx/"]),
        ("/{any}/*", ["/a/", "/a/b/c"], ["/", "/a", "//"]),
        ("/*", ["/", "/a", "/a/b/"], ["*"]),
    ],
)
def test_a_pattern_matches_by_segment(pattern: str, matching: list[str], others: list[str]) -> None:
    parsed = PathPattern.parse(pattern)
    compiled = PathPatterns.compile([parsed])
    for path in matching:
        assert parsed.matches(path), path
        assert compiled.match(path), path
    for path in others:
        assert not parsed.matches(path), path
        assert not compiled.match(path), path


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("", "does not start with '/'"),
        ("charges", "does not start with '/'"),
        ("*", "does not start with '/'"),
        ("/a*", "'*' may only stand alone"),
        ("/*/a", "'*' may only stand alone"),
        ("/a/**", "'*' may only stand alone"),
        ("/a{id}", "whole segment"),
        ("/{}", "whole segment"),
        ("/{id", "whole segment"),
        ("/{1d}", "whole segment"),
        ("/{id}/{id}", "twice"),
        ("/a?b", "no query"),
        ("/a/../{id}/*", "write its canonical form: /{id}/*"),
        ("/%7euser", "write its canonical form: /~user"),
        ("/a//b", "write its canonical form: /a/b"),
        ("/a%2fb", "an encoded slash"),
        ("/a b", "space"),
        ("/é", "outside ASCII"),
    ],
)
def test_a_malformed_pattern_is_refused_with_advice(text: str, advice: str) -> None:
    with pytest.raises(PatternMalformed, match=re.escape(advice)):
        PathPattern.parse(text)


@given(st.lists(pattern_texts, max_size=4), paths)
@examples(200)
def test_patterns_agree_with_the_reference(patterns: list[str], path: str) -> None:
    parsed = [PathPattern.parse(pattern) for pattern in patterns]
    expected = [reference(pattern, path) for pattern in patterns]
    assert [each.matches(path) for each in parsed] == expected
    assert PathPatterns.compile(parsed).match(path) == any(expected)


@given(st.text(max_size=30))
@examples(200)
def test_any_text_is_a_pattern_or_is_refused(text: str) -> None:
    try:
        PathPattern.parse(text)
    except PatternMalformed:
        return
    assert text.startswith("/")
