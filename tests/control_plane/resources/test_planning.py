"""Objects and stored documents to a plan: what is touched, what is not, and that a plan done once is done."""

from typing import Any

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from control_plane.resources.objects import kept
from control_plane.resources.planning import MESSAGE_CHARACTERS, Plan, Verdict, plan, verdict
from control_plane.resources.reading import Readings, read_all
from control_plane.store.changes import check_owner
from control_plane.store.records import Owner, PolicyKey, StoredPolicy, key_of
from tests.support.examples import examples
from tests.support.stores import Clock, document

NAMES = st.sampled_from("abcd")


def item(name: str, generation: int = 1, **spec: Any) -> dict[str, Any]:
    """A cluster object with `document`'s policy; `spec` is added to it."""
    content = document(name, generation)
    metadata = {**content["metadata"], "uid": f"uid-{name}", "generation": generation, "resourceVersion": "7"}
    return {**content, "metadata": metadata, "spec": {**content["spec"], **spec}}


def read(*items: dict[str, Any]) -> Readings:
    return read_all([kept(each["kind"], each) for each in items], {})


def in_normal_form(name: str, generation: int = 1) -> dict[str, Any]:
    (reading,) = read(item(name, generation)).values()
    assert reading.document is not None
    return reading.document


def stored(name: str, generation: int = 1, owner: Owner = "cluster") -> StoredPolicy:
    policy = in_normal_form(name, generation)
    return StoredPolicy(*key_of(policy), policy, 3, "ann", Clock().now, owner)


def by_key(*policies: StoredPolicy) -> dict[PolicyKey, StoredPolicy]:
    return {each.key: each for each in policies}


def key(name: str) -> PolicyKey:
    return "AllowPolicy", "shop", name


def test_new_objects_are_put_changed_ones_replaced_and_gone_ones_deleted() -> None:
    wanted = plan(read(item("a"), item("b", 2), item("c")), by_key(stored("b"), stored("c"), stored("d")))
    assert wanted is not None
    assert wanted.put == (in_normal_form("a"), in_normal_form("b", 2))
    assert wanted.delete == (key("d"),)
    assert wanted.message == (
        "AllowPolicy shop/a generation 1, AllowPolicy shop/b generation 2, AllowPolicy shop/d deleted"
    )


def test_where_the_store_says_the_same_there_is_nothing_to_do() -> None:
    assert plan(read(item("a")), by_key(stored("a"), stored("b", owner="cli"))) is None
    assert plan({}, {}) is None


def test_a_faulty_object_changes_nothing_and_holds_up_nobody() -> None:
    readings = read(item("a", 2, htttp=[]), item("b", 2, http=None), item("c"))
    wanted = plan(readings, by_key(stored("a")))
    assert wanted is not None
    assert (wanted.put, wanted.delete) == ((in_normal_form("c"),), ())
    assert [verdict(each, None) for each in readings.values()] == [Verdict.FAULTS, Verdict.FAULTS, Verdict.PENDING]
    assert [fault.path for fault in readings[key("a")].faults] == ["spec.htttp"]


def test_a_second_namespace_defaults_costs_only_itself() -> None:
    def defaults(name: str) -> dict[str, Any]:
        metadata = {"name": name, "namespace": "shop", "uid": name, "generation": 1}
        return {"kind": "NamespaceDefaults", "metadata": metadata, "spec": {"default": "audit"}}

    readings = read(defaults("defaults"), defaults("other"), item("a"))
    wanted = plan(readings, {})
    assert wanted is not None
    assert [each["metadata"]["name"] for each in wanted.put] == ["defaults", "a"]
    assert [each.path for each in readings["NamespaceDefaults", "shop", "other"].faults] == ["metadata.name"]


def test_what_the_command_made_is_left_and_its_object_waits() -> None:
    readings, have = read(item("a", 2)), by_key(stored("a", owner="cli"))
    assert plan(readings, have) is None
    assert verdict(readings[key("a")], have[key("a")]) is Verdict.OWNED_BY_CLI


def test_a_message_is_bounded_and_counts_what_it_leaves_out() -> None:
    wanted = plan(read(*(item(f"name-{number:03}") for number in range(300))), {})
    assert wanted is not None
    assert len(wanted.message) < MESSAGE_CHARACTERS + 20
    named = wanted.message.count("generation")
    assert wanted.message.endswith(f" and {300 - named} more")


def test_what_says_the_same_is_not_read_again() -> None:
    first = read(item("a"), item("b", htttp=[]))
    again = read_all([evolve(each.object, version="8", status={"number": 1}) for each in first.values()], first)
    for name in "ab":
        assert again[key(name)].document is first[key(name)].document
        assert again[key(name)].faults is first[key(name)].faults
        assert again[key(name)].object.version == "8"
    changed = read_all([kept("AllowPolicy", item("a", 2))], first)
    assert changed[key("a")].document == in_normal_form("a", 2)


def done(wanted: Plan | None, have: dict[PolicyKey, StoredPolicy]) -> dict[PolicyKey, StoredPolicy]:
    """What a store holds after the plan: refused where it touches what is the command's."""
    if wanted is None:
        return have
    check_owner(have.values(), [*map(key_of, wanted.put), *wanted.delete], "cluster")
    rest = {key: each for key, each in have.items() if key not in wanted.delete}
    put = (StoredPolicy(*key_of(each), each, 4, "kubernetes", Clock().now, "cluster") for each in wanted.put)
    return {**rest, **by_key(*put)}


OBJECTS = st.builds(item, NAMES, st.integers(1, 3)) | st.builds(lambda name: item(name, htttp=[]), NAMES)
STORED = st.builds(stored, NAMES, st.integers(1, 3), st.sampled_from(("cli", "cluster")))


@examples(100)
@given(st.lists(OBJECTS, unique_by=lambda each: each["metadata"]["name"]), st.lists(STORED, max_size=4))
def test_a_plan_done_twice_is_a_plan_done_once_and_never_touches_the_command_s(
    items: list[dict[str, Any]], policies: list[StoredPolicy]
) -> None:
    readings, have = read(*items), by_key(*policies)
    after = done(plan(readings, have), have)
    assert plan(readings, after) is None
    for key_, each in have.items():
        if each.owner == "cli":
            assert after[key_] is each
    for key_, reading in readings.items():
        mine = after.get(key_)
        if reading.document is not None:
            assert mine is not None
            assert mine.owner == "cli" or mine.document == reading.document
        else:
            assert mine is have.get(key_)
    assert all(each.owner == "cli" or key_ in readings for key_, each in after.items())
