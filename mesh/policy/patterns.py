"""Path patterns: exact, `{name}` for one segment, a trailing `/*` for the rest. By segment, no regular expressions.

`/charges/*` matches `/charges/` (the rest is empty) and `/charges/1/refund`, but not `/charges`. `{name}` matches
one segment that is not empty. A pattern is written in canonical form, so that it is compared with canonical paths as
they are; `*` (the target of `OPTIONS *`) is no path and matches none.
"""

import re
from collections.abc import Iterable
from typing import Self

from attrs import frozen

from mesh.policy.paths import PathRefused, canonical_target, decoded

_NAME = re.compile(r"\{[A-Za-z_][A-Za-z0-9_]*\}")


class PatternMalformed(ValueError):
    """The text is no path pattern; the message says what to write instead."""


@frozen
class PathPattern:
    """One pattern: its segments, where None stands for any one segment, and whether anything may follow below."""

    segments: tuple[str | None, ...]
    rest: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `/charges/{id}/refund` or `/charges/*`. Raises PatternMalformed."""
        if not text.startswith("/"):
            raise PatternMalformed(f"{text[:80]!r} does not start with '/'")
        written = text[1:].split("/")
        rest = written[-1] == "*"
        fixed = written[:-1] if rest else written
        segments = tuple(_segment(segment) for segment in fixed)
        names = [segment for segment in fixed if segment.startswith("{")]
        if len(set(names)) < len(names):
            raise PatternMalformed("the same {name} stands in it twice")
        _check_canonical(text, fixed, rest)
        return cls(segments, rest)

    @property
    def literal(self) -> bool:
        """True where no segment is a `{name}`."""
        return None not in self.segments

    def decoded(self) -> Self:
        """The pattern over paths whose escapes are all decoded (mesh.policy.paths.readings)."""
        return type(self)(tuple(each and decoded(each) for each in self.segments), self.rest)

    def matches(self, path: str) -> bool:
        """Whether a canonical `path` is one of this pattern's."""
        if not path.startswith("/"):
            return False
        given = path[1:].split("/")
        if len(given) <= len(self.segments) if self.rest else len(given) != len(self.segments):
            return False
        return all(
            segment == want if want is not None else segment != ""
            for segment, want in zip(given, self.segments, strict=False)  # what `/*` covers is left over
        )

    def __str__(self) -> str:
        text = "".join(f"/{'{}' if segment is None else segment}" for segment in self.segments)
        return f"{text}/*" if self.rest else text


@frozen(eq=False)
class PathPatterns:
    """Several patterns, sorted by how they are best compared: whole, by their beginning, by segment."""

    exact: frozenset[str]
    beginnings: tuple[str, ...]
    by_segment: tuple[PathPattern, ...]

    @classmethod
    def compile(cls, patterns: Iterable[PathPattern]) -> Self:
        """Sort `patterns`."""
        patterns = tuple(patterns)
        return cls(
            frozenset(str(each) for each in patterns if each.literal and not each.rest),
            tuple(str(each)[:-1] for each in patterns if each.literal and each.rest),
            tuple(each for each in patterns if not each.literal),
        )

    def match(self, path: str) -> bool:
        """Whether any pattern matches a canonical `path`."""
        return (
            path in self.exact
            or path.startswith(self.beginnings)
            or (bool(self.by_segment) and any(each.matches(path) for each in self.by_segment))
        )


def _segment(segment: str) -> str | None:
    if _NAME.fullmatch(segment):
        return None
    if "*" in segment:
        raise PatternMalformed("'*' may only stand alone, as the last segment: write /charges/*")
    if "{" in segment or "}" in segment:
        raise PatternMalformed("'{' and '}' may only enclose a name that is a whole segment: write /charges/{id}")
    return segment


def _check_canonical(text: str, fixed: list[str], rest: bool) -> None:
    """Refuse what no canonical path can look like, so that a pattern that never matches is an error."""
    if "?" in text:
        raise PatternMalformed("a pattern has no query: paths are matched without theirs")
    plain = "".join(f"/{'x' if segment.startswith('{') else segment}" for segment in [*fixed, *["x"] * rest])
    try:
        canonical = canonical_target(plain).path
    except PathRefused as refused:
        raise PatternMalformed(f"no request can have such a path: {refused}") from None
    if canonical != plain:
        raise PatternMalformed(f"write its canonical form: {_canonical_pattern(text)}")


def _canonical_pattern(text: str) -> str:
    """`text` in canonical form, with its names and its star put back."""
    marked = text.replace("{", "~.").replace("}", ".~")
    return canonical_target(marked).path.replace("~.", "{").replace(".~", "}")
