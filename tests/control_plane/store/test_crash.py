"""Killed at any point of a change, the store comes back whole: the old state or the new one, never a part."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from control_plane.store.store import Store
from tests.support.stores import HOME, Clock, document

NAMES = tuple(f"p{number:02}" for number in range(8))

PRELUDE = """
import itertools, os, shutil, signal, sys
import sqlalchemy as sa
from control_plane.store.store import Store
from tests.support.stores import HOME, Clock, document
folder, names = sys.argv[1], sys.argv[2].split()
def change(store, generation):
    documents = [document(name, generation) for name in names]
    return store.change_policies(documents[1:], [("AllowPolicy", "shop", names[0])], author="ann", message="m").number
"""

# Kills itself before the n-th statement of one change, for each n in turn, each time on a copy of the store; ends with
# the n at which the change came through.
DIE_AT_EACH_STATEMENT = (
    PRELUDE
    + """
for n in itertools.count(1):
    shutil.copy(f"{folder}/store.db", f"{folder}/killed{n}.db")
    child = os.fork()
    if child == 0:
        store = Store.open(f"sqlite:///{folder}/killed{n}.db", trust_domain=HOME, clock=Clock())
        left = itertools.count(n, -1)
        @sa.event.listens_for(sa.Engine, "before_cursor_execute")
        def die(*_):
            if next(left) == 1:
                os.kill(os.getpid(), signal.SIGKILL)
        change(store, 2)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status):
        sys.exit(os.WEXITSTATUS(status))
"""
)

CHANGE_FOR_EVER = (
    PRELUDE
    + """
store = Store.open(f"sqlite:///{folder}/store.db", trust_domain=HOME, clock=Clock())
for generation in itertools.count(2):
    store.change_policies([document(name, generation) for name in names], [], author="ann", message="m")
    print(generation, flush=True)
"""
)


@contextmanager
def opened(path: Path) -> Iterator[Store]:
    store = Store.open(f"sqlite:///{path}", trust_domain=HOME, clock=Clock())
    try:
        yield store
    finally:
        store.close()


@pytest.fixture
def first_generation(path: Path) -> None:
    """A store with every document in its first generation, closed."""
    with opened(path) as store:
        store.change_policies([document(name) for name in NAMES], [], author="ann", message="m")


@pytest.mark.usefixtures("first_generation")
def test_killed_before_any_statement_of_a_change_the_old_state_is_whole(path: Path) -> None:
    arguments = [sys.executable, "-c", DIE_AT_EACH_STATEMENT, str(path.parent), " ".join(NAMES)]
    subprocess.run(arguments, check=True, timeout=60)
    files = sorted(path.parent.glob("killed*.db"), key=lambda file: int(file.stem.removeprefix("killed")))
    assert len(files) > 8  # the lock, the number, the revision, its changes, the policies, the audit log: all were cut
    for file in files[:-1]:
        with opened(file) as store:
            assert [policy.document for policy in store.policies()] == [document(name) for name in NAMES], file
            assert (store.number(), store.policy_number(), store.verify_audit()) == (1, 1, 2), file
    with opened(files[-1]) as store:
        assert [policy.document for policy in store.policies()] == [document(name, 2) for name in NAMES[1:]]
        assert (store.number(), store.policy_number(), store.verify_audit()) == (2, 2, 3)


@pytest.mark.usefixtures("first_generation")
def test_killed_from_outside_at_any_moment_what_was_confirmed_is_there_and_whole(path: Path) -> None:
    for lines in (1, 4, 9):
        arguments = [sys.executable, "-c", CHANGE_FOR_EVER, str(path.parent), " ".join(NAMES)]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _ in range(lines):
                process.stdout.readline()
            process.kill()
            confirmed = int((process.stdout.read().split() or ["0"])[-1])
        with opened(path) as store:
            generations = {policy.document["spec"]["to"]["ports"][0] - 8000 for policy in store.policies()}
            assert len(generations) == 1
            assert generations.pop() >= max(confirmed, lines)
            assert store.policy_number() == store.number() == store.revisions(1)[0].number
            assert store.verify_audit() == store.number() + 1
