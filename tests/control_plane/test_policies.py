"""Policy files to changes: all of them or none, every fault at once, and a diff to read first."""

import io
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from control_plane import policies
from control_plane.policies import diff, documents_of, plan, preview, read_paths
from control_plane.store.errors import OwnedByOther
from control_plane.store.records import StoredPolicy
from mesh.policy import PolicyFaults, read_policies
from tests.support.mutations import mutated
from tests.support.stores import document

GOOD = """\
apiVersion: doorward.dev/v1
kind: AllowPolicy
metadata: {name: NAME, namespace: shop}
spec:
  to: {workload: payments, ports: [8080]}
  from: [{workload: checkout}]
"""


def good(name: str) -> str:
    return GOOD.replace("NAME", name)


def faults(*paths: Path | str, stdin: bytes = b"") -> list[str]:
    """The faults with which reading these paths is refused."""
    with pytest.raises(PolicyFaults) as refused:
        read_paths(paths, io.BytesIO(stdin))
    return [str(fault) for fault in refused.value.faults]


def stored(name: str, generation: int = 1) -> StoredPolicy:
    time = datetime(2026, 11, 20, tzinfo=UTC)
    return StoredPolicy("AllowPolicy", "shop", name, document(name, generation), generation, "ann", time)


def test_a_directory_is_read_recursively_by_name_without_hidden_files(tmp_path: Path) -> None:
    for name in ("b.yaml", "a.yml", "sub/c.yaml", ".hidden.yaml", "..data/d.yaml", "sub/.git/e.yaml", "readme.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(good("x"))
    sources = [Path(document.source).relative_to(tmp_path).as_posix() for document in read_paths([tmp_path])]
    assert sources == ["a.yml", "b.yaml", "sub/c.yaml"]


def test_a_mounted_config_map_is_read_once(tmp_path: Path) -> None:
    (tmp_path / "..2026_11_20").mkdir()
    (tmp_path / "..2026_11_20" / "a.yaml").write_text(good("a"))
    (tmp_path / "..data").symlink_to("..2026_11_20")
    (tmp_path / "a.yaml").symlink_to("..data/a.yaml")
    assert len(read_paths([tmp_path])) == 1


def test_files_and_standard_input_are_read_in_the_order_given(tmp_path: Path) -> None:
    (tmp_path / "any-name").write_text(good("a"))
    documents = read_paths(["-", tmp_path / "any-name"], io.BytesIO(b"\xef\xbb\xbf" + good("b").encode()))
    assert [document.source for document in documents] == ["stdin", str(tmp_path / "any-name")]
    assert [policy.name for policy in read_policies(documents).policies] == ["b", "a"]


def test_faults_of_every_file_are_listed_those_of_the_text_and_those_of_the_policy(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(good("a").replace("8080", "0123").replace("from:", "form:"))
    (tmp_path / "b.yaml").write_text("a: [")
    (tmp_path / "c.yaml").write_text(good("c").replace("AllowPolicy", "AlowPolicy"))
    (tmp_path / "d.yaml").write_text(good("d"))
    found = [fault.removeprefix(f"{tmp_path}/") for fault in faults(tmp_path)]
    assert [fault.split(" ")[:2] for fault in found] == [
        ["a.yaml#1", "spec.to.ports[0]:"],
        ["a.yaml#1", "spec.form:"],
        ["b.yaml#1:", "line"],
        ["c.yaml#1", "kind:"],
    ]


def test_a_fault_of_the_text_is_not_followed_by_what_it_causes() -> None:
    with pytest.raises(PolicyFaults) as refused:
        read_paths(["-"], io.BytesIO((good("on") + "  http: *rules\n").encode()))
    assert [fault.path for fault in refused.value.faults] == ["metadata.name", "spec.http"]


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n---\n"])
def test_a_file_that_holds_no_document_is_refused_lest_a_prune_empties_the_store(text: str) -> None:
    assert faults("-", stdin=text.encode()) == ["stdin#1: holds no document"]


def test_a_directory_without_policy_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "policy.json").write_text("{}")
    assert faults(tmp_path) == [f"{tmp_path}#1: holds no *.yaml or *.yml file"]


def test_what_cannot_be_read_is_a_fault_beside_the_others(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"a: caf\xe9")
    (tmp_path / "gone.yaml").symlink_to("nowhere")
    found = faults(tmp_path / "missing.yaml", tmp_path / "latin.yaml", tmp_path / "gone.yaml", "-", stdin=b"a: no")
    assert [fault.split(": ", 1)[1] for fault in found if "stdin" not in fault] == [
        "cannot be read: No such file or directory",
        "is not UTF-8: byte 6 cannot be read",
        "cannot be read: No such file or directory",
    ]
    assert any(fault.startswith("stdin#1 a: line 1: 'no'") for fault in found)


def test_standard_input_where_there_is_none_is_a_fault() -> None:
    with pytest.raises(PolicyFaults, match="name a file or a directory"):
        read_paths(["-"])


def test_a_pipe_in_a_directory_does_not_hang_the_reader(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "a.yaml").write_text(good("a"))
    assert len(read_paths([tmp_path])) == 1


def test_the_total_size_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policies, "MAX_BYTES", len(good("a")) * 2)
    for name in "ab":
        (tmp_path / f"{name}.yaml").write_text(good(name))
    assert len(read_paths([tmp_path])) == 2
    (tmp_path / "c.yaml").write_text("#")
    (fault,) = faults(tmp_path)
    assert fault.startswith(f"{tmp_path}/c.yaml#1: with this there are more than")
    assert "more than" in faults("-", stdin=good("a").encode() * 3)[0]


def test_documents_come_out_in_their_normal_form() -> None:
    (normal,) = documents_of(read_policies(read_paths(["-"], io.BytesIO(good("a").encode()))))
    assert documents_of(read_policies(read_paths(["-"], io.BytesIO(policies.to_yaml(normal).encode())))) == [normal]


def test_a_plan_deletes_only_where_it_prunes() -> None:
    have = [stored("a"), stored("b"), stored("c")]
    put = [document("b", 2), document("d")]
    assert plan(put, have, prune=False) == (put, [], [])
    assert plan(put, have, prune=True) == (put, [("AllowPolicy", "shop", "a"), ("AllowPolicy", "shop", "c")], [])


def test_a_plan_prunes_nothing_that_belongs_to_the_cluster() -> None:
    have = [stored("a"), evolve(stored("b"), owner="cluster"), evolve(stored("c"), owner="cluster")]
    put = [document("b")]
    assert plan(put, have, prune=True) == (put, [("AllowPolicy", "shop", "a")], [("AllowPolicy", "shop", "c")])
    assert plan(put, have, prune=False) == (put, [], [])


def test_a_preview_refuses_what_the_store_would_refuse() -> None:
    have = [evolve(stored("a"), owner="cluster")]
    for put, delete in (([document("a", 2)], []), ([], [("AllowPolicy", "shop", "a")])):
        with pytest.raises(OwnedByOther):
            preview(put, delete, have)


def test_a_plan_tells_kinds_and_namespaces_apart() -> None:
    deny = {**document("a"), "kind": "DenyPolicy"}
    assert plan([deny], [stored("a")], prune=True)[1] == [("AllowPolicy", "shop", "a")]


def test_the_diff_shows_each_document_that_changes() -> None:
    have = [stored("a"), stored("b"), stored("c")]
    changes = preview([document("a"), document("b", 2), document("d")], [("AllowPolicy", "shop", "c")], have)
    lines = diff(changes).splitlines()
    assert [line for line in lines if line.startswith(("---", "+++"))] == [
        "--- AllowPolicy shop/b",
        "+++ AllowPolicy shop/b",
        "--- AllowPolicy shop/c",
        "+++ /dev/null",
        "--- /dev/null",
        "+++ AllowPolicy shop/d",
    ]
    assert {"-    - 8001", "+    - 8002"} <= set(lines)


def test_the_diff_of_no_change_is_empty() -> None:
    assert diff(preview([document("a")], [], [stored("a")])) == ""


def test_a_file_that_cannot_be_read_is_a_fault_and_hides_no_other(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").symlink_to("nowhere")
    (tmp_path / "b.yaml").write_bytes(b"\xff")
    (tmp_path / "c.yaml").write_text("kind: 1")
    with pytest.raises(PolicyFaults) as caught:
        read_paths([tmp_path])
    assert {Path(fault.source).name for fault in caught.value.faults} == {"a.yaml", "b.yaml", "c.yaml"}


@given(mutated(good("x").encode()) | st.binary(max_size=60))
def test_any_bytes_are_policies_or_are_refused_with_faults(content: bytes) -> None:
    try:
        documents = read_paths(["-"], io.BytesIO(content))
        read_policies(documents)
    except PolicyFaults:
        return
    assert documents
