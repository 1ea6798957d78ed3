"""YAML in, plain data out, and nothing that means one thing to its author and another to a parser (law 11).

What is understood is JSON's data: maps with text keys, lists, texts, whole numbers, true, false and null, each spelt
as YAML 1.2 and every older parser agree. Unquoted scalars on which YAML versions differ (`no`, `0123`, `12:30`, `1e3`,
dates), anchors, aliases, merge keys, tags and repeated keys are faults, each with its path and line. Reading works on
the parser's events, so aliases are refused rather than expanded, and goes on after a fault to find the next.

Source: YAML 1.2.2 §10.3 (core schema) and the YAML 1.1 type repository, https://yaml.org/type/.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

import yaml
from attrs import Factory, define

from mesh.policy import Document, Fault

MAX_DEPTH: Final = 32
"""Nesting. A policy is eight deep."""

_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml where the wheel has it: ten times faster
_SHOWN: Final = 60
_KEY: Final = re.compile(r"[A-Za-z0-9_-]{1,60}")

_INT: Final = re.compile(r"0|-?[1-9][0-9]{0,17}", re.ASCII)
_WORDS: Final = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_NUMBER: Final = "write a plain whole number, or quotes around text"
_QUOTES: Final = "write quotes around text"
_SURPRISES: Final = (
    (r"y|n|yes|no|on|off", "is a truth value to some parsers: write true or false, or quotes around text"),
    (r"[-+]?0(x[0-9a-f_]+|o[0-7_]+|b[01_]+|[0-9_]+)", f"is a number, but parsers disagree on which: {_NUMBER}"),
    (r"[-+]?[0-9][0-9_]*", f"is a number that some parsers take for text or round: {_NUMBER}"),
    (r"[-+]?[0-9][0-9_]*(:[0-9_]+)+(\.[0-9_]*)?", f"is a number of base 60 to some parsers: {_QUOTES}"),
    (r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt\s].*)?", f"is a date to some parsers: {_QUOTES}"),
    (r"[-+]?(\.[0-9_]+|[0-9][0-9_]*(\.[0-9_]*)?)(e[-+]?[0-9_]+)?", f"is a fraction: {_NUMBER}"),
    (r"[-+]?\.(inf|nan)", f"is no number that can be used here: {_NUMBER}"),
    (r"<<|=", f"has a meaning of its own to some parsers: {_QUOTES}"),
)
_COMPILED: Final = [(re.compile(regex, re.IGNORECASE | re.ASCII | re.DOTALL), why) for regex, why in _SURPRISES]


def parse(text: str, source: str) -> tuple[list[Document], list[Fault]]:
    """Every document in `text` that is not empty, numbered from 1, and everything that is wrong with it.

    A value with a fault stands in its document as None, so that the rest can still be checked.
    """
    reader = _Reader(source)
    try:
        text.encode()  # libyaml would fail on a lone surrogate with an error of its own
        reader.read(yaml.parse(text, Loader=_LOADER))
    except UnicodeEncodeError:
        reader.fault("", None, "is not valid Unicode")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reader.fault("", mark, f"not YAML: {' '.join(filter(None, (error.context, error.problem)))}")
    except yaml.YAMLError as error:
        reader.fault("", None, f"not YAML: {str(error).splitlines()[0]}")
    except _TooDeep:
        pass  # noted; what follows cannot be told apart
    return reader.documents, reader.faults


def to_yaml(document: Any) -> str:
    """One document as YAML that `parse` reads back as the same: whatever could surprise is quoted.

    Every character but a line's end is printable: with one that is not, such as one that turns text around, all that
    is not ASCII is escaped.
    """
    for as_it_is in (True, False):
        text: str = yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=as_it_is, width=120)
        if all(line.isprintable() for line in text.split("\n")):
            break
    return text


class _TooDeep(Exception):
    """The text nests deeper than MAX_DEPTH."""


@define
class _Reader:
    """Turns one source's events into documents, noting faults on the way."""

    source: str
    documents: list[Document] = Factory(list)
    faults: list[Fault] = Factory(list)
    _index: int = 0

    def fault(self, path: str, mark: Any, message: str) -> None:
        """Note what is wrong at `path`, and on which line."""
        place = f"line {mark.line + 1}: " if mark else ""
        self.faults.append(Fault(self.source, max(self._index, 1), path, place + message))

    def read(self, events: Iterator[Any]) -> None:
        """Take the whole stream."""
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                self._index += 1
                first = next(events)
                value = self._node(first, events, "", MAX_DEPTH)
                if value is not None:
                    self.documents.append(Document(self.source, self._index, value))

    def _node(self, event: Any, events: Iterator[Any], path: str, depth: int) -> Any:
        if isinstance(event, yaml.AliasEvent):
            self.fault(path, event.start_mark, f"the alias *{event.anchor} is not allowed: write the value out")
            return None
        if event.anchor is not None:
            self.fault(path, event.start_mark, f"the anchor &{event.anchor} is not allowed: leave it out")
        if event.tag is not None:
            self.fault(path, event.start_mark, f"the tag {_show(event.tag)} is not allowed: leave it out")
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event, path)
        if depth == 0:
            self.fault(path, event.start_mark, f"nests more than {MAX_DEPTH} deep")
            raise _TooDeep
        if isinstance(event, yaml.SequenceStartEvent):
            return self._list(events, path, depth - 1)
        return self._map(events, path, depth - 1)

    def _list(self, events: Iterator[Any], path: str, depth: int) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(events), yaml.SequenceEndEvent):
            items.append(self._node(event, events, f"{path}[{len(items)}]", depth))
        return items

    def _map(self, events: Iterator[Any], path: str, depth: int) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        lines: dict[str, int] = {}
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            key, below = self._key(event, events, path, depth)
            value = self._node(next(events), events, below, depth)
            if key in fields:
                self.fault(below, event.start_mark, f"this key stands on line {lines[key]} already: remove one of them")
            lines.setdefault(key, event.start_mark.line + 1)
            fields.setdefault(key, value)
        return fields

    def _key(self, event: Any, events: Iterator[Any], path: str, depth: int) -> tuple[str, str]:
        """A key, which must be text, and the path below it; after a fault, the key as it was spelt."""
        key = event.value if isinstance(event, yaml.ScalarEvent) else "?"
        shown = key if _KEY.fullmatch(key) else f"[{_show(key)}]"
        below = f"{path}.{shown}" if path else shown
        noted = len(self.faults)
        if not isinstance(self._node(event, events, below, depth), str) and len(self.faults) == noted:
            self.fault(below, event.start_mark, "a key must be text: write it in quotes")
        return key, below

    def _scalar(self, event: Any, path: str) -> Any:
        text: str = event.value
        if event.style:  # quoted or block: text, whatever it looks like
            return text
        try:
            return _resolve(text)
        except ValueError as error:
            self.fault(path, event.start_mark, f"{_show(text)} {error}")
            return None


def _resolve(text: str) -> Any:
    """The value of an unquoted scalar. Raises ValueError, saying why it surprises and what to write."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text)
    for pattern, why in _COMPILED:
        if pattern.fullmatch(text):
            raise ValueError(why)
    return text


def _show(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")


class _Dumper(yaml.SafeDumper):
    """Writes texts so that no parser takes them for anything else, and repeats a shared value instead of aliasing."""

    def ignore_aliases(self, _data: Any) -> bool:
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    try:
        plain = _resolve(text) == text and text.isprintable()
    except ValueError:
        plain = False
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else '"')


_Dumper.add_representer(str, _represent_text)
