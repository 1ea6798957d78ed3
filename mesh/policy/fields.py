"""A value in a document together with its path: what every reader of a policy document stands on.

A Node answers the four questions that reading asks (is it a map with these keys, a list that is not empty, a text,
one of these words) and notes a fault where the answer is no, so that reading goes on to the next fault.
"""

import re
from collections.abc import Callable, Sequence
from difflib import get_close_matches

from attrs import frozen

Note = Callable[[str, str], None]
"""Takes a fault's path and message."""

_SHOWN = 60  # characters of a foreign value that a message repeats
_KEY = re.compile(r"[A-Za-z0-9_-]{1,60}")
_TYPE_NAMES = {dict: "a map", list: "a list", int: "a large number", type(None): "nothing"}


def show(value: object) -> str:
    """`value` for a message, short whatever it is: a text or truth value itself, of anything else its type."""
    if isinstance(value, str):
        return repr(value if len(value) <= _SHOWN else value[:_SHOWN] + "…")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and abs(value) < 10**18:
        return str(value)
    return _TYPE_NAMES.get(type(value), f"a {type(value).__name__[:_SHOWN]}")


def closest(word: str, known: Sequence[str]) -> str | None:
    """The one of `known` that was probably meant, or None where none is close."""
    folded = {each.lower(): each for each in known}
    close = get_close_matches(word[:_SHOWN].lower(), folded, n=1)
    return folded[close[0]] if close else None


@frozen(eq=False)
class Node:
    """One value, where it stands, and where to note what is wrong with it."""

    value: object
    path: str
    note: Note

    def fault(self, message: str) -> None:
        """Note that this value is wrong."""
        self.note(self.path, message)

    def fault_at(self, key: str, message: str) -> None:
        """Note that something is wrong at `key` in this map, be it there or not."""
        self.note(self._below(key), message)

    def mapping(self, *, required: Sequence[str] = (), optional: Sequence[str] = ()) -> "dict[str, Node] | None":
        """The known keys that are there; missing and unknown keys are noted. None where this is no map."""
        if not isinstance(self.value, dict):
            self.fault(f"must be a map, got {show(self.value)}")
            return None
        known = (*required, *optional)
        missing = [key for key in required if key not in self.value]
        misspelt = {
            self._unknown(key, missing, known) for key in self.value if not isinstance(key, str) or key not in known
        }
        for key in missing:
            if key not in misspelt:
                self.fault_at(key, "is missing")
        return {key: Node(self.value[key], self._below(key), self.note) for key in known if key in self.value}

    def items(self, what: str) -> "list[Node] | None":
        """The items of a list of `what` that is not empty. None, and noted, where it is not that."""
        if not isinstance(self.value, list):
            hint = f": write [{show(self.value)}]" if isinstance(self.value, (str, int)) else ""
            self.fault(f"must be a list of {what}, got {show(self.value)}{hint}")
            return None
        if not self.value:
            self.fault(f"is empty: write at least one of {what}, or leave the key out where it may be left out")
            return None
        return [Node(item, f"{self.path}[{index}]", self.note) for index, item in enumerate(self.value)]

    def text(self) -> str | None:
        """The text that stands here. None, and noted, where it is no text."""
        if not isinstance(self.value, str):
            hint = ": write it in quotes" if isinstance(self.value, (int, float)) else ""
            self.fault(f"must be a text, got {show(self.value)}{hint}")
            return None
        return self.value

    def one_of(self, words: Sequence[str]) -> str | None:
        """The one of `words` that stands here. None, and noted, where it is none of them."""
        word = self.text()
        if word is None or word in words:
            return word
        meant = closest(word, words)
        hint = f"; did you mean {meant!r}?" if meant else f": write {_or(words)}"
        self.fault(f"{show(word)} is unknown{hint}")
        return None

    def _below(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key

    def _unknown(self, key: object, missing: Sequence[str], known: Sequence[str]) -> str | None:
        """Note an unknown key. Returns the known key that was probably meant."""
        shown = key if isinstance(key, str) and _KEY.fullmatch(key) else f"[{show(key)}]"
        if not isinstance(key, str):
            self.fault_at(shown, "is no key of this map: keys are texts")
            return None
        meant = closest(key, missing) or closest(key, known)
        self.fault_at(shown, f"unknown key; did you mean {meant!r}?" if meant else f"unknown key: write {_or(known)}")
        return meant


def _or(words: Sequence[str]) -> str:
    return " or ".join(map(repr, words))
