"""Opening a store: what is made, what is kept, and what is refused."""

import logging
import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from certs.spiffe import TrustDomain
from control_plane.push.views import Picture
from control_plane.store.errors import StoreError
from control_plane.store.records import Contents
from control_plane.store.schema import metadata
from control_plane.store.store import Store
from tests.support.policies import allow_policy
from tests.support.stores import CHECKOUT, HOME, Clock, document, identity, lease

Open = Callable[[], Store]


def test_a_new_store_is_empty_and_says_so_in_its_audit_log(store: Store) -> None:
    assert store.contents() == Contents(store.epoch, 0, (), (), ())
    assert store.number() == store.policy_number() == 0
    assert [entry.event for entry in store.audit()] == ["store.created"]


def test_what_was_stored_is_there_after_reopening(open_store: Open) -> None:
    first = open_store()
    first.change_policies([document("a")], [], author="ann", message="")
    first.ban("serial:7", reason="lost", author="ann")
    before = first.contents()
    first.close()
    after = open_store().contents()
    assert (after.number, after.policies, after.bans) == (before.number, before.policies, before.bans)
    assert after.number == 2


def test_every_opening_is_an_epoch_of_its_own_since_it_may_follow_a_restore(open_store: Open) -> None:
    assert open_store().epoch != open_store().epoch


def test_the_file_is_for_its_owner_only(store: Store, path: Path) -> None:
    store.record("ann", "looked", {})
    for file in path.parent.glob("store.db*"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def test_the_store_of_another_trust_domain_is_refused(store: Store, path: Path, clock: Clock) -> None:
    with pytest.raises(StoreError, match=r"belongs to the trust domain cluster\.local, not other\.example") as refused:
        Store.open(f"sqlite:///{path}", trust_domain=TrustDomain("other.example"), clock=clock)
    assert refused.value.code == "other_trust_domain"


def test_tables_of_a_newer_doorward_are_refused_and_left_alone(open_store: Open, tamper: Callable[[str], None]) -> None:
    open_store().close()
    tamper("UPDATE alembic_version SET version_num = '9999'")
    for _ in range(2):
        with pytest.raises(StoreError, match="newer Doorward") as refused:
            open_store()
        assert refused.value.code == "newer_schema"


def test_the_changelog_says_which_steps_changed_the_tables() -> None:
    """Who goes back by `helm rollback` has to know where that ends: docs/kubernetes.md sends people there."""
    config = Config()
    config.set_main_option("script_location", "control_plane.store:migrations")
    steps = [each.revision for each in ScriptDirectory.from_config(config).walk_revisions() if each.down_revision]
    assert steps
    told = (Path(__file__).parents[3] / "CHANGELOG.md").read_text(encoding="utf-8")
    assert [each for each in steps if f"`{each}`" not in told] == []


def test_a_file_that_is_no_database_is_refused(path: Path, open_store: Open) -> None:
    path.touch(mode=0o600)
    path.write_bytes(b"apiVersion: doorward.dev/v1\n" * 100)
    with pytest.raises(StoreError, match="not a database"):
        open_store()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sqlite://", "must outlive the process"),
        ("sqlite:///:memory:", "must outlive the process"),
        ("sqlite:////nowhere/at/all/store.db", "No such file or directory"),
        ("mysql://localhost/doorward", "use sqlite or postgresql"),
        ("postgresql+pg8000://localhost/doorward", "pip install pg8000"),
        ("nothing://x", "nothing"),
        ("store.db", "URL"),
    ],
)
def test_a_url_that_cannot_hold_a_store_is_refused(url: str, words: str, clock: Clock) -> None:
    with pytest.raises(StoreError, match=words):
        Store.open(url, trust_domain=HOME, clock=clock)


def test_the_extra_that_brings_the_driver_is_named_where_it_is_missing(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StoreError, match=re.escape("pip install 'doorward[postgresql]'")):
        Store.open("postgresql+psycopg://user@host/doorward", trust_domain=HOME, clock=clock)


def test_a_closed_store_file_that_vanished_is_an_error_of_ours(store: Store, path: Path) -> None:
    store.close()
    for file in path.parent.glob("store.db*"):
        file.unlink()
    with pytest.raises(StoreError, match="the store failed"):
        store.number()


def test_migrations_make_exactly_the_tables_of_the_schema(store: Store, path: Path) -> None:
    with sa.create_engine(f"sqlite:///{path}").connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        connection.close()
        connection.engine.dispose()


def test_opening_prints_nothing_and_leaves_logging_alone(capfd: pytest.CaptureFixture[str], open_store: Open) -> None:
    root = logging.getLogger()
    before = (root.level, list(root.handlers), logging.getLogger("alembic").level)
    open_store()
    assert (root.level, list(root.handlers), logging.getLogger("alembic").level) == before
    assert capfd.readouterr() == ("", "")


def test_naming_what_the_store_refuses_does_not_import_sqlalchemy() -> None:
    program = (
        "import sys, control_plane.store.records, control_plane.store.errors, control_plane.policies, "
        "control_plane.state; sys.exit('sqlalchemy' in sys.modules or 'alembic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], env={**os.environ}, check=False).returncode == 0


def test_a_change_of_roots_advances_the_number_and_repeating_them_does_not(store: Store) -> None:
    assert store.note_roots(["aa", "bb"])
    assert not store.note_roots(["bb", "aa"])
    assert store.number() == 1
    assert store.note_roots(["bb"])
    assert store.number() == 2
    assert store.audit()[-1].detail == {"before": ["aa", "bb"], "after": ["bb"], "number": 2}


def test_contents_belong_together(store: Store, clock: Clock) -> None:
    store.change_policies([document("a")], [], author="ann", message="")
    store.lease_endpoints(identity(CHECKOUT), "one", [lease(CHECKOUT, "10.0.0.1", clock)])
    store.ban("serial:7", reason="lost", author="ann")
    contents = store.contents()
    assert contents == Contents(store.epoch, 3, store.policies(), store.leases(), store.bans())
    assert (len(contents.policies), len(contents.leases), len(contents.bans)) == (1, 1, 1)


def test_a_store_that_others_may_read_is_refused(store: Store, path: Path, open_store: Callable[[], Store]) -> None:
    path.chmod(0o644)
    with pytest.raises(StoreError, match=f"has mode 0644: .* run: chmod 600 {path}"):
        open_store()


def test_a_damaged_policy_is_a_clear_error_and_not_a_crash(store: Store, tamper: Callable[[str], None]) -> None:
    store.change_policies([allow_policy("checkout", "payments", 8080)], [], author="ann", message="")
    tamper("UPDATE policies SET document = '{\"spec\": 7}'")
    with pytest.raises(StoreError, match="AllowPolicy shop/checkout-calls-payments is damaged in the store"):
        Picture.build(store.contents(), store.policy_number(), ())
    tamper("UPDATE policies SET document = 'not json'")
    with pytest.raises(StoreError, match="a row of the store is damaged: bring the store back from a backup"):
        store.contents()
