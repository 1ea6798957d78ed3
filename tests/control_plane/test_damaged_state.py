"""A state directory that is damaged, foreign or somebody else's is refused in words, and nothing in it is changed."""

import hashlib
import os
import re
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from control_plane.program import CannotStart, serve
from control_plane.settings import ControlPlaneSettings, HostPort
from tests.support.stock import missing

Damage = Callable[[Path, Path], object]
"""What happens to a directory; the second one is that of another control plane."""

HERE = HostPort("127.0.0.1", 0)
BACKUP = "bring it back from a backup"
OTHER_CA = "kept under another CA"
SOMEBODY = 12345


def _cut(size: int) -> Damage:
    return lambda state, _: os.truncate(state / "store.db", size)


def _write(name: str, content: bytes) -> Damage:
    return lambda state, _: (state / name).write_bytes(content)


def _remove(name: str) -> Damage:
    return lambda state, _: (state / name).unlink()


def _take(*names: str) -> Damage:
    return lambda state, other: [shutil.copy(other / name, state / name) for name in names]


def _owned_by_another(name: str) -> Damage:
    return lambda state, _: os.chown(state / name, SOMEBODY, -1)


def _swap_keys(state: Path, _: Path) -> None:
    for old, new in (("root.key", "x"), ("issuer.key", "root.key"), ("x", "issuer.key")):
        (state / old).rename(state / new)


def _database(statement: str, *, keep: bool) -> Damage:
    def change(state: Path, _: Path) -> None:
        if not keep:
            (state / "store.db").unlink()
        connection = sqlite3.connect(state / "store.db")
        connection.execute(statement)
        connection.commit()
        connection.close()
        (state / "store.db").chmod(0o600)

    return change


CASES: dict[str, tuple[Damage, str]] = {
    "a store cut to half": (_cut(60_000), BACKUP),
    "a store of one page": (_cut(4096), BACKUP),
    "an empty store": (_cut(0), "missing or empty though this directory has been used"),
    "no store": (_remove("store.db"), "missing or empty though this directory has been used"),
    "a store that is none": (_write("store.db", b"\x00not a database" * 999), BACKUP),
    "a foreign database": (_database("CREATE TABLE notes (x)", keep=False), "the database of something else"),
    "a newer store": (_database("UPDATE alembic_version SET version_num = 'r9999'", keep=True), "a newer Doorward"),
    "the store of another": (_take("store.db"), OTHER_CA),
    "a root key that is none": (_write("root.key", b"\x00\xff"), "no private key"),
    "an issuer key that is none": (_write("issuer.key", b"\x00\xff"), "no private key"),
    "a root that is none": (_write("root.pem", b"\x00\xff"), "no block BEGIN CERTIFICATE"),
    "an issuer that is none": (_write("issuer.pem", b"\x00\xff"), "no block BEGIN CERTIFICATE"),
    "no root": (_remove("root.pem"), OTHER_CA),
    "swapped keys": (_swap_keys, "not for the CA's key"),
    "another's root key": (_take("root.key"), "not for the CA's key"),
    "another's CA": (_take("root.key", "root.pem", "issuer.key", "issuer.pem"), OTHER_CA),
    "a newer directory": (_write("doorward.json", b'{"format": 2}'), "a newer Doorward wrote it"),
    "no marker": (_remove("doorward.json"), "no state directory of Doorward"),
}
ANOTHERS: dict[str, tuple[Damage, str]] = {
    "another's directory": (_owned_by_another("."), f"belongs to user id {SOMEBODY}"),
    "another's key": (_owned_by_another("root.key"), f"belongs to user id {SOMEBODY}"),
    "another's store": (_owned_by_another("store.db"), f"belongs to user id {SOMEBODY}"),
}


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two state directories of control planes that have run and ended."""
    one, two = (tmp_path_factory.mktemp(name) / "state" for name in ("one", "two"))
    for state in (one, two):
        trio.run(_run, state)
    return one, two


@pytest.mark.parametrize(("damage", "words"), CASES.values(), ids=CASES)
async def test_what_is_damaged_or_foreign_is_refused_and_left_as_it_is(
    damage: Damage, words: str, used: tuple[Path, Path], tmp_path: Path
) -> None:
    await _expect_refusal(damage, words, used, tmp_path)


@pytest.mark.parametrize(("damage", "words"), ANOTHERS.values(), ids=ANOTHERS)
async def test_what_another_user_owns_is_refused_and_left_as_it_is(
    damage: Damage, words: str, used: tuple[Path, Path], tmp_path: Path
) -> None:
    if os.geteuid() != 0:
        missing("giving files to another user needs root: sudo make test, or .ci/run")
    await _expect_refusal(damage, words, used, tmp_path)


async def test_addresses_that_cannot_be_written_down_are_a_refusal_too(used: tuple[Path, Path], tmp_path: Path) -> None:
    shutil.copytree(used[0], state := tmp_path / "state")
    (state / "run.json").mkdir()
    with pytest.raises(CannotStart, match=r"run\.json cannot be written"):
        await _run(state)


async def _expect_refusal(damage: Damage, words: str, used: tuple[Path, Path], tmp_path: Path) -> None:
    state = tmp_path / "state"
    shutil.copytree(used[0], state)
    damage(state, used[1])
    before = _fingerprints(state)
    with pytest.raises(CannotStart, match=re.escape(words)):
        await _run(state)
    assert before.items() <= _fingerprints(state).items()


async def _run(state: Path) -> None:
    """A control plane from its start to the moment when it is ready. Raises CannotStart."""
    settings = ControlPlaneSettings(state=state, listen=HERE, observe=None)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(serve, settings)
            nursery.cancel_scope.cancel()
    except* CannotStart as refused:
        raise refused.exceptions[0] from None


def _fingerprints(state: Path) -> dict[str, str]:
    """Every file but the lock, which holds no state."""
    files = [file for file in state.iterdir() if file.is_file() and file.name != "lock"]
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
