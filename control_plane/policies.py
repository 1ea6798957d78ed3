"""Policy files: from paths to documents, from documents to what changes, and what changes as a text to read.

Data flows: paths -> `read_paths` -> `mesh.policy.read_policies` -> `documents_of` -> `plan` -> the store, which says
what it did; or `preview` -> `diff`. Files are read strictly (`control_plane.yaml_core`), and all of them or none: one
fault anywhere refuses the whole set, with every fault that can be found in one go.
"""

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from difflib import unified_diff
from pathlib import Path
from typing import Any, BinaryIO, Final

from control_plane.store.changes import changes_between, check_owner
from control_plane.store.records import Change, PolicyKey, StoredPolicy, key_of
from control_plane.yaml_core import parse, to_yaml
from mesh.policy import Document, Fault, PolicyFaults, PolicySet, read_policies, to_document

MAX_BYTES: Final = 16 * 1024 * 1024
"""What one call reads in total: ten thousand policies are under 10 MiB, and a snapshot holds at most 32."""

STDIN: Final = "-"
SUFFIXES: Final = (".yaml", ".yml")


def read_paths(paths: Sequence[Path | str], stdin: BinaryIO | None = None) -> list[Document]:
    """The documents in files, in directories (every *.yaml and *.yml below, by name) and, for `-`, in `stdin`.

    Hidden files are left out. Raises PolicyFaults: also for what cannot be read, for a directory without a policy
    file, and for more than MAX_BYTES in all.
    """
    documents: list[Document] = []
    faults: list[Fault] = []
    left = MAX_BYTES
    for path in paths:
        try:
            files = _files(Path(path))
        except PolicyFaults as error:
            faults += error.faults
            continue
        for file in files:
            try:
                source, content = _content(file, stdin, left)
                left -= len(content)
                more, wrong = _load(_decode(content, source), source)
            except PolicyFaults as error:
                more, wrong = [], list(error.faults)
            documents += more
            faults += wrong
    return _whole(documents, faults)


def documents_of(policies: PolicySet) -> list[dict[str, Any]]:
    """The documents of policies and defaults in their normal form, as the store keeps them."""
    return [*map(to_document, policies.policies), *map(to_document, policies.defaults)]


def plan(
    put: Sequence[dict[str, Any]], stored: Iterable[StoredPolicy], *, prune: bool
) -> tuple[list[dict[str, Any]], list[PolicyKey], list[PolicyKey]]:
    """What to put and what to delete, as `Store.change_policies` takes it; and what `prune` leaves.

    Documents are added or replaced by kind, namespace and name. With `prune` whatever the command has stored and is not
    in `put` goes, and what belongs to the cluster is left.
    """
    kept = {key_of(document) for document in put}
    others = [policy for policy in stored if policy.key not in kept] if prune else []
    gone = [policy.key for policy in others if policy.owner == "cli"]
    return list(put), gone, [policy.key for policy in others if policy.owner == "cluster"]


def preview(
    put: Sequence[dict[str, Any]], delete: Sequence[PolicyKey], stored: Iterable[StoredPolicy]
) -> tuple[Change, ...]:
    """What `Store.change_policies` would do for the command. Raises StoreError where it would."""
    stored = tuple(stored)
    check_owner(stored, [*map(key_of, put), *delete], "cli")
    return changes_between({policy.key: policy.document for policy in stored}, put, delete)


def diff(changes: Iterable[Change]) -> str:
    """The changes as a unified diff, one hunk or more for each document; empty where nothing changes."""
    return "".join(line for change in changes if change.action != "unchanged" for line in _diff(change))


def _diff(change: Change) -> Iterator[str]:
    name = f"{change.kind} {change.namespace}/{change.name}"
    before = to_yaml(change.before) if change.before is not None else ""
    after = to_yaml(change.after) if change.after is not None else ""
    return unified_diff(
        before.splitlines(keepends=True),
        after.splitlines(keepends=True),
        name if before else "/dev/null",
        name if after else "/dev/null",
    )


def _load(text: str, source: str) -> tuple[list[Document], list[Fault]]:
    documents, faults = parse(text, source)
    if not documents and not faults:
        faults = [Fault(source, 1, "", "holds no document")]
    return documents, faults


def _whole(documents: list[Document], faults: list[Fault]) -> list[Document]:
    """The documents, where nothing was wrong; else PolicyFaults, with what the policy model objects to besides."""
    if not faults:
        return documents
    try:
        read_policies(documents)
    except PolicyFaults as error:
        places = {(fault.source, fault.index, fault.path) for fault in faults}
        faults = faults + [fault for fault in error.faults if not _follows(fault, places)]
    raise PolicyFaults(sorted(faults, key=lambda fault: (fault.source, fault.index)))


def _follows(fault: Fault, places: set[tuple[str, int, str]]) -> bool:
    """Whether a fault stands at or below a place where the text itself was at fault, and so may only follow from it."""
    path = fault.path
    while path:
        if (fault.source, fault.index, path) in places:
            return True
        path = path[: max(path.rfind("."), path.rfind("["), 0)]
    return (fault.source, fault.index, "") in places


def _content(file: Path, stdin: BinaryIO | None, limit: int) -> tuple[str, bytes]:
    """Name and content of one file, or of `stdin`. Raises PolicyFaults."""
    if str(file) == STDIN:
        if stdin is None:
            raise _refused(STDIN, "standard input cannot be read here: name a file or a directory")
        return "stdin", _bounded(stdin, limit, "stdin")
    source = _shown(file)
    try:
        with file.open("rb") as stream:
            return source, _bounded(stream, limit, source)
    except OSError as error:
        raise _refused(source, f"cannot be read: {error.strerror}") from None


def _shown(path: Path) -> str:
    """The path as text that can be sent and stored, whatever bytes a file system lets names have."""
    return os.fsencode(path).decode("utf-8", "replace")


def _files(path: Path) -> list[Path]:
    """The files that `path` means. What cannot be read stays among them: `--prune` would remove its policies."""
    if str(path) == STDIN:
        return [path]
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise _refused(_shown(path), f"cannot be read: {error.strerror}") from None
    if not stat.S_ISDIR(mode):
        return [path]
    found: list[Path] = []
    for folder, below, names in os.walk(path, onerror=_raise):
        below[:] = [name for name in below if not name.startswith(".")]  # a mounted ConfigMap keeps old versions there
        found += [Path(folder, name) for name in names if name.endswith(SUFFIXES) and not name.startswith(".")]
    if files := sorted(file for file in found if not _is_pipe(file)):
        return files
    raise _refused(_shown(path), "holds no *.yaml or *.yml file")


def _is_pipe(file: Path) -> bool:
    """Whether opening it would wait for a writer: such a thing holds no policy, unless it is named itself."""
    try:
        return stat.S_ISFIFO(file.stat().st_mode)
    except OSError:
        return False  # reading it says what is wrong


def _raise(error: OSError) -> None:
    raise _refused(str(error.filename), f"cannot be read: {error.strerror}")


def _bounded(stream: BinaryIO, limit: int, source: str) -> bytes:
    content = stream.read(limit + 1)
    if len(content) > limit:
        raise _refused(
            source, f"with this there are more than {MAX_BYTES // 1024**2} MiB of policies: too many at once"
        )
    return content


def _decode(content: bytes, source: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _refused(source, f"is not UTF-8: byte {error.start} cannot be read") from None


def _refused(source: str, message: str) -> PolicyFaults:
    return PolicyFaults([Fault(source, 1, "", message)])
