"""What has to be done so that the trust bundle is where the mesh is, and nowhere else."""

import pytest

from control_plane.kubernetes.trust_bundles import Held, Step, plan, read_config_map, read_namespace

GOOD = Held({"bundle.pem": "roots"}, ours=True)


@pytest.mark.parametrize(
    "found",
    [Held({"bundle.pem": "others"}, True), Held({"bundle.pem": "roots", "x": ""}, True), Held(GOOD.data, False)],
)
def test_it_is_made_where_it_is_missing_and_put_right_where_it_differs(found: Held) -> None:
    assert plan("roots", {"a": True, "b": True, "c": True}, {"b": found, "c": GOOD}) == [
        Step("create", "a"),
        Step("replace", "b"),
    ]


def test_it_goes_with_the_label_but_only_our_own() -> None:
    assert plan("roots", {}, {"a": GOOD, "b": Held(GOOD.data, ours=False)}) == [Step("delete", "a")]


def test_a_namespace_that_is_ending_is_left_alone() -> None:
    assert plan("roots", {"a": False, "b": False}, {"b": Held({}, ours=True)}) == []
    assert read_namespace({"metadata": {"name": "a"}})
    assert not read_namespace({"metadata": {"name": "a", "deletionTimestamp": "2026-01-01T00:00:00Z"}})


def test_what_is_read_of_a_config_map() -> None:
    labels = {"app.kubernetes.io/managed-by": "doorward", "other": "x"}
    assert read_config_map({"metadata": {"labels": labels}, "data": {"bundle.pem": "roots"}}) == GOOD
    assert read_config_map({"metadata": {}}) == Held({}, ours=False)
    assert (
        read_config_map({"metadata": {"labels": labels}, "data": {"bundle.pem": "roots"}, "binaryData": {"x": ""}})
        != GOOD
    )
