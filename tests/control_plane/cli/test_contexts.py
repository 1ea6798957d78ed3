"""Operators and their contexts, by the command: made, kept, chosen, refused."""

import os
import stat
from datetime import timedelta
from pathlib import Path

import pytest
from attrs import evolve

from control_plane.admin.context import Context
from control_plane.cli.contexts import Contexts
from control_plane.settings import HostPort
from tests.control_plane.cli.test_commands import DOCS, keys_in
from tests.support.pki import Pki


@pytest.fixture
def contexts(tmp_path):
    return tmp_path / "contexts"


@pytest.fixture
def file(admin, tmp_path):
    """A context file of the operator ann."""
    path = tmp_path / "ann.context.toml"
    assert admin("operator", "create", "ann", "--context-file", str(path)).exit == 0
    return path


def test_an_operator_is_made_and_asks_by_its_context(admin, doorward, house, file, contexts):
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    answer = doorward("context", "add", str(file))
    assert (answer.exit, "ann@cluster.local" in answer.out) == (0, True)
    assert [stat.S_IMODE(each.stat().st_mode) for each in (contexts, *contexts.iterdir())] == [0o700, 0o600, 0o600]
    assert doorward("ban", "add", "shop/checkout").exit == 0
    assert house.backend.store.bans()[0].author == "operator:ann"
    assert doorward("operator", "list", "-o", "json").json["operators"][0]["name"] == "ann"
    assert "ann" in doorward("operator", "list").out


def test_the_key_never_reaches_the_control_plane(admin, house, file, monkeypatch):
    key = file.read_text().split("BEGIN PRIVATE KEY-----\n")[1].splitlines()[0].encode()
    for each in house.directory.rglob("*"):
        assert not each.is_file() or key not in each.read_bytes()


def test_every_key_is_in_the_reference(doorward, admin, file, tmp_path):
    answers = [
        admin("operator", "create", "bob", "--context-file", str(tmp_path / "b"), "-o", "json"),
        admin("operator", "list", "-o", "json"),
        doorward("context", "add", str(file), "-o", "json"),
        doorward("context", "list", "-o", "json"),
        doorward("context", "show", "-o", "json"),
        doorward("context", "use", "ann@cluster.local", "-o", "json"),
        doorward("context", "delete", "ann@cluster.local", "-o", "json"),
    ]
    for answer in answers:
        assert {key for key in keys_in(answer.json) if f"`{key}`" not in DOCS} == set(), answer


def test_show_and_list_tell_everything_but_the_key(doorward, file):
    doorward("context", "add", str(file), "--name", "production", "--server", "127.0.0.1:9443")
    key = file.read_text().split("BEGIN PRIVATE KEY-----\n")[1].splitlines()[0]
    shown, listed = doorward("context", "show"), doorward("context", "list")
    for answer in (shown, listed):
        assert (answer.exit, key in answer.out) == (0, False)
        assert "127.0.0.1:9443" in answer.out
    assert "spiffe://cluster.local/operator/ann" in shown.out


def test_a_context_through_standard_output_and_input(admin, doorward, house):
    made = admin("operator", "create", "ann", "--context-file", "-", "--server", "10.0.0.7:9443")
    server = f"{house.operators.host}:{house.operators.port}"
    assert doorward("context", "add", "-", "--server", server, stdin=made.out).exit == 0
    assert doorward("sidecars").exit == 0


def test_which_control_plane_is_asked(admin, doorward, house, file, monkeypatch, tmp_path):
    """Options before environment; a socket before a context; a named context before the current one."""

    def author(*options):
        assert doorward(*options, "ban", "add", "shop/x").exit == 0, options
        return house.backend.store.bans()[0].author

    local = author("--admin", str(house.socket))
    for name in ("bob", "cleo"):
        assert admin("operator", "create", name, "--add").exit == 0
    doorward("context", "use", "bob@cluster.local")
    assert author() == "operator:bob"
    monkeypatch.setenv("DOORWARD_CONTEXT", "cleo@cluster.local")
    assert author() == "operator:cleo"
    assert author("--context", "bob@cluster.local") == "operator:bob"
    monkeypatch.setenv("DOORWARD_ADMIN", str(house.socket))
    assert author() == local
    assert author("--context", "bob@cluster.local") == "operator:bob"
    both = doorward("--context", "bob@cluster.local", "ban", "list", "--admin", str(house.socket))
    assert (both.exit, "two control planes" in both.err) == (2, True)


def test_an_operator_renews_its_own_context(admin, doorward, house):
    admin("operator", "create", "ann", "--add", "--lifetime", "10m")
    first = doorward("context", "show", "-o", "json").json
    assert doorward("operator", "create", "ann", "--add").exit == 0
    second = doorward("context", "show", "-o", "json").json
    assert first["server"] == second["server"]
    assert first["expires"] < second["expires"]
    assert house.backend.store.audit()[-1].actor == "operator:ann"


def test_an_expired_context_says_what_to_do(doorward):
    pki = Pki()
    name, hour = str(pki.domain.operator("bob")), timedelta(hours=1)
    svid = pki.forge(evolve(pki.template(), uris=(name,), not_before=pki.now - 2 * hour, not_after=pki.now - hour))
    made = Context(HostPort("127.0.0.1", 1), pki.bundle, svid).to_toml().decode()
    Contexts.of_user().write("old", made.encode())
    answer = doorward("--context", "old", "sidecars")
    assert answer.exit == 2
    assert "ended at" in answer.err
    assert "doorward operator create bob" in answer.err
    assert doorward("context", "add", "-", stdin=made).exit == 2
    assert doorward("context", "list").exit == 0


@pytest.mark.parametrize("mode", [0o644, 0o640])
def test_what_others_may_read_is_refused(doorward, file, contexts, mode):
    file.chmod(mode)
    answer = doorward("context", "add", str(file))
    assert (answer.exit, "chmod 600" in answer.err) == (2, True)
    file.chmod(0o600)
    doorward("context", "add", str(file))
    (contexts / "ann@cluster.local.toml").chmod(mode)
    answer = doorward("sidecars")
    assert (answer.exit, "chmod 600" in answer.err) == (2, True)
    contexts.chmod(0o755)
    for words in (("sidecars",), ("context", "list"), ("context", "add", str(file))):
        answer = doorward(*words)
        assert (answer.exit, "chmod 700" in answer.err) == (2, True)


def test_a_context_of_somebody_else_is_not_replaced(admin, doorward, file):
    doorward("context", "add", str(file), "--name", "production")
    other = admin("operator", "create", "bob", "--context-file", "-").out
    answer = doorward("context", "add", "-", "--name", "production", stdin=other)
    assert (answer.exit, "--name" in answer.err) == (2, True)
    assert doorward("context", "add", str(file), "--name", "production").exit == 0


def test_deleting_the_current_context_leaves_none(doorward, file, contexts):
    doorward("context", "add", str(file))
    assert doorward("context", "delete", "ann@cluster.local", "-o", "json").json["current"] is None
    assert list(contexts.iterdir()) == []
    answer = doorward("context", "show")
    assert (answer.exit, "context use" in answer.err) == (2, True)
    answer = doorward("--context", "ann@cluster.local", "sidecars")
    assert (answer.exit, "context add" in answer.err) == (2, True)


@pytest.mark.parametrize("name", ["", "..", "a/b", "änn", "a b", "a" * 300])
def test_a_wrong_name_is_refused_before_anything_is_made(admin, doorward, house, file, name):
    answer = admin("operator", "create", name)
    assert (answer.exit, "cannot be an operator's name" in answer.err) == (2, True)
    assert len(house.backend.store.operators()) == 1
    assert doorward("context", "add", str(file), "--name", name or "/").exit == 2
    assert doorward("context", "delete", name).exit == 2


def test_a_file_that_is_there_is_left_alone(admin, house, file):
    before = file.read_bytes()
    answer = admin("operator", "create", "ann", "--context-file", str(file))
    assert (answer.exit, "is there already" in answer.err) == (2, True)
    assert file.read_bytes() == before
    assert len(house.backend.store.operators()) == 1


def test_where_no_file_can_be_made_no_certificate_is(admin, house, tmp_path):
    answer = admin("operator", "create", "ann", "--context-file", str(tmp_path / "nowhere" / "ann.toml"))
    assert (answer.exit, "cannot be written" in answer.err) == (2, True)
    assert house.backend.store.operators() == ()


def test_without_an_address_for_operators_it_says_which_setting(admin, house):
    object.__setattr__(house.backend, "operators_listen", None)
    answer = admin("operator", "create", "ann", "--add")
    assert (answer.exit, "--admin-listen" in answer.err) == (2, True)
    assert house.backend.store.operators() == ()
    object.__setattr__(house.backend, "operators_listen", "0.0.0.0:9443")
    answer = admin("operator", "create", "ann", "--add", "-o", "json")
    assert (answer.json["server"], "--server" in answer.err) == ("127.0.0.1:9443", True)


def test_a_lifetime_above_the_bound_is_refused(admin, house):
    answer = admin("operator", "create", "ann", "--lifetime", "2d", "--add")
    assert (answer.exit, "--operator-lifetime" in answer.err) == (2, True)


def test_without_any_control_plane_it_says_what_to_do(doorward, monkeypatch):
    monkeypatch.setattr("control_plane.cli.session.DEFAULT_STATE", Path("/nowhere"))
    answer = doorward("sidecars")
    assert answer.exit == 2
    assert "--admin" in answer.err
    assert "doorward context add" in answer.err


def test_where_contexts_are_kept(monkeypatch, tmp_path):
    monkeypatch.delenv("DOORWARD_CONTEXTS", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    assert Contexts.of_user().directory == tmp_path / ".config/doorward/contexts"
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "x"))
    assert Contexts.of_user().directory == tmp_path / "x/doorward/contexts"
    assert Contexts.of_user().names() == []
    assert not os.path.lexists(tmp_path / "x")
