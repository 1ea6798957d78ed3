"""Manifests, YAML or JSON, as kubectl means them: text in, plain data out, and each document's own text beside it.

Unquoted scalars mean what they mean to kubectl: `yes`, `on` and `y` are true, `0644` is 420, `1e3` is a number, a date
is text. Anchors, aliases and merge keys are followed. What kubectl takes one way and another parser another way
without a word is a fault: a repeated key, a merge that overrides a key before it.

Source: k8s.io/apimachinery/pkg/util/yaml, where `---` at the start of a line parts documents and a text that starts
with a brace is JSON; and sigs.k8s.io/yaml, which reads with go.yaml.in/yaml/v2 (its resolve.go).
"""

import json
import re
from collections.abc import Iterator
from typing import Any, Final

import yaml
from attrs import Factory, define, frozen

from control_plane.injector.faults import shown
from control_plane.injector.scalars import resolve
from mesh.policy import Fault

MAX_DEPTH: Final = 100
MAX_VALUES: Final = 1_000_000
"""Values in one document with its aliases written out."""

_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MARKER: Final = re.compile(r"^---(?=\s|$)", re.MULTILINE)
_TEXT_TAGS: Final = ("!", "tag:yaml.org,2002:str")


@frozen
class Manifest:
    """One document. `index` counts from 1 in `source`; `text` is the YAML that it was, None where that was JSON."""

    source: str
    index: int
    content: Any
    text: str | None


def read_manifests(text: str, source: str) -> tuple[list[Manifest], list[Fault]]:
    """Every document in `text` that is not empty, and what is wrong with the others."""
    try:
        text.encode()  # libyaml would fail on a lone surrogate with an error of its own
        return _json(text, source), []
    except UnicodeEncodeError:
        return [], [Fault(source, 1, "", "is not valid Unicode")]
    except (ValueError, RecursionError):
        return _yaml(text, source)


def _json(text: str, source: str) -> list[Manifest]:
    """Raises ValueError where this is no JSON object, or several of them."""
    found: list[Manifest] = []
    rest = text.lstrip()
    while rest or not found:
        if not rest.startswith("{"):
            raise ValueError("no object")
        content, end = json.JSONDecoder(object_pairs_hook=_without_duplicates).raw_decode(rest)
        found.append(Manifest(source, len(found) + 1, content, None))
        rest = rest[end:].lstrip()
    return found


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(content := dict(pairs)) < len(pairs):
        raise ValueError("a key stands twice in one object")
    return content


def _yaml(text: str, source: str) -> tuple[list[Manifest], list[Fault]]:
    found: list[Manifest] = []
    faults: list[Fault] = []
    starts = [0, *(match.start() for match in _MARKER.finditer(text) if match.start())]
    index = 0
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        part = text[start:end]
        reader = _Reader(first_line=text.count("\n", 0, start) + 1)
        try:
            documents = list(reader.documents(part))
        except (_Wrong, yaml.YAMLError) as error:
            index += 1
            faults.append(Fault(source, index, "", _said(error, reader.first_line)))
            continue
        for content in documents:
            index += 1
            found.append(Manifest(source, index, content, part if len(documents) == 1 else None))
    return found, faults


def _said(error: Exception, first_line: int) -> str:
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        place = f"line {first_line + mark.line}: " if mark else ""
        return f"{place}not YAML: {' '.join(filter(None, (error.context, error.problem)))}"
    return str(error) if isinstance(error, _Wrong) else f"not YAML: {str(error).splitlines()[0]}"


class _Wrong(Exception):
    """The document cannot be used; the text says why, and in which line."""


@define
class _Reader:
    """The documents of one part of a file, from the parser's events: aliases are counted before they are followed."""

    first_line: int
    _anchors: dict[str, tuple[Any, int]] = Factory(dict)
    _values: int = 0

    def documents(self, text: str) -> Iterator[Any]:
        """Each document that is not empty. Raises _Wrong, yaml.YAMLError."""
        events = iter(yaml.parse(text, Loader=_LOADER))
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                self._anchors, self._values = {}, 0
                content = self._value(next(events), events, MAX_DEPTH)
                if content is not None:
                    yield content

    def _wrong(self, event: Any, message: str) -> _Wrong:
        return _Wrong(f"line {self.first_line + event.start_mark.line}: {message}")

    def _value(self, event: Any, events: Iterator[Any], depth: int) -> Any:
        before = self._values
        self._values += 1
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                raise self._wrong(event, f"the alias *{event.anchor} names no anchor before it")
            value, size = self._anchors[event.anchor]
            self._values += size
        else:
            value = self._written(event, events, depth)
            if event.anchor is not None:
                self._anchors[event.anchor] = (value, self._values - before)
        if self._values > MAX_VALUES:
            raise self._wrong(event, f"holds more than {MAX_VALUES} values")
        return value

    def _written(self, event: Any, events: Iterator[Any], depth: int) -> Any:
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event)
        if depth == 0:
            raise self._wrong(event, f"nests more than {MAX_DEPTH} deep")
        if isinstance(event, yaml.SequenceStartEvent):
            items = []
            while not isinstance(event := next(events), yaml.SequenceEndEvent):
                items.append(self._value(event, events, depth - 1))
            return items
        return self._map(events, depth - 1)

    def _map(self, events: Iterator[Any], depth: int) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        merged: set[str] = set()
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            if isinstance(event, yaml.ScalarEvent) and event.value == "<<" and not event.style:
                for key, value in self._merges(event, self._value(next(events), events, depth)):
                    if key in fields and key not in merged:
                        raise self._wrong(event, f"the merge overrides {shown(key)}: write it before that")
                    fields.setdefault(key, value)
                    merged.add(key)
                continue
            key = self._key(event, self._value(event, events, depth))
            if key in fields and key not in merged:
                raise self._wrong(event, f"the key {shown(key)} stands there twice: remove one of them")
            fields[key] = self._value(next(events), events, depth)
            merged.discard(key)
        return fields

    def _merges(self, event: Any, value: Any) -> Iterator[tuple[str, Any]]:
        maps = value if isinstance(value, list) else [value]
        if not all(isinstance(each, dict) for each in maps):
            raise self._wrong(event, "<< merges maps only")
        for each in maps:
            yield from each.items()

    def _key(self, event: Any, key: Any) -> str:
        if isinstance(key, bool):
            return str(key).lower()
        if isinstance(key, str | int):
            return str(key)
        raise self._wrong(event, "a key must be text")

    def _scalar(self, event: Any) -> Any:
        if event.tag in _TEXT_TAGS or (event.style and event.tag is None):
            return event.value
        if event.tag is not None:
            raise self._wrong(event, f"the tag {shown(event.tag)} means nothing in a manifest: leave it out")
        try:
            return resolve(event.value)
        except ValueError as error:
            raise self._wrong(event, f"{shown(event.value)} {error}") from None
