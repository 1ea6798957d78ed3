"""How policies are named on the command line: by NAMESPACE/NAME, with the kind apart. Pure.

Who comes from kubectl writes the kind first, in its plural, short or before a slash, and the namespace by `-n`. That is
understood well enough to say what to write, and never acted upon: `allow/x` may be x of the namespace allow.
"""

import shlex
from collections.abc import Sequence
from typing import Final

from attrs import frozen

KINDS: Final = ("AllowPolicy", "DenyPolicy", "NamespaceDefaults")

_SPELLINGS: Final = {
    "allowpolicy": "AllowPolicy",
    "allowpolicies": "AllowPolicy",
    "allow": "AllowPolicy",
    "denypolicy": "DenyPolicy",
    "denypolicies": "DenyPolicy",
    "deny": "DenyPolicy",
    "namespacedefaults": "NamespaceDefaults",
    "nsdefaults": "NamespaceDefaults",
}


@frozen
class Meant:
    """What some words name: kinds in their own spelling, and names with their namespace where that was said."""

    kinds: tuple[str, ...]
    names: tuple[str, ...]

    def __str__(self) -> str:
        kinds = [f"kind {each}" for each in self.kinds]
        return ", ".join(kinds + [f"name {each}" for each in self.names]) or "no name"


def kind_of(word: str) -> str | None:
    """The kind that kubectl would take this for."""
    return _SPELLINGS.get(word.lower().removesuffix(".doorward.dev").removesuffix(".v1"))


def key_of(words: Sequence[str]) -> dict[str, str] | None:
    """The key that a kind and NAMESPACE/NAME name, exactly these; None for other words."""
    if len(words) != 2:
        return None
    kinds = [kind for kind in KINDS if kind.lower() == words[0].lower()]
    namespace, _, name = words[1].partition("/")
    return {"kind": kinds[0], "namespace": namespace, "name": name} if kinds and namespace and name else None


def meant(words: Sequence[str], namespace: str | None = None, kind: str | None = None) -> Meant:
    """What kubectl would take these words for; `namespace` and `kind` are options that were given beside them."""
    kinds, names = [kind] if kind else [], []
    for word in words:
        first, _, rest = word.partition("/")
        found = kind_of(first)
        kinds += [found] if found else []
        name = rest if found else word
        if name:
            names.append(f"{namespace}/{name}" if namespace and "/" not in name else name)
    return Meant(tuple(dict.fromkeys(kinds)), tuple(names))


def to_delete(found: Meant) -> str:
    """The command that deletes them; of several kinds, what the command for each looks like."""
    names = found.names if found.names and len(found.kinds) < 2 else ("NAMESPACE/NAME",)
    return _command("delete", *names, *(("--kind", found.kinds[0]) if found.kinds else ()))


def to_get(found: Meant) -> str:
    """The command that shows the first of them, or all."""
    return _command("get", *found.names[:1])


def to_release(found: Meant) -> str:
    """The command that releases the first of them."""
    name = found.names[0] if found.names else "NAME"
    return _command("release", *(found.kinds[:1] or ("KIND",)), name if "/" in name else f"NAMESPACE/{name}")


def advice(found: Meant, command: str) -> str:
    """The end of a refusal: what was understood, and the command to write."""
    return f"Understood: {found}.\nWrite: {command}"


def _command(*words: str) -> str:
    return shlex.join(("doorward", "policy", *words))
