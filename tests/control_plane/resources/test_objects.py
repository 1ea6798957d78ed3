"""What is remembered of an object, and that nothing that was written silently disappears (law 11)."""

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.resources.objects import APPLIED, MAX_BYTES, MAX_DEPTH, kept
from control_plane.resources.reading import read
from tests.support.stores import document


def item(applied: Any = None, **more: Any) -> dict[str, Any]:
    """An object, and what its annotation says was applied."""
    content = document("a")
    annotations = {} if applied is None else {APPLIED: applied if isinstance(applied, str) else json.dumps(applied)}
    metadata = {**content["metadata"], "uid": "u", "generation": 4, "resourceVersion": "9", "annotations": annotations}
    return {**content, "metadata": {**metadata, "labels": {"team": "x"}}, **more}


def faults(found: dict[str, Any]) -> list[str]:
    return [f"{each.path}: {each.message}" for each in read(kept("AllowPolicy", found)).faults]


def test_of_the_metadata_only_name_and_namespace_enter_the_document() -> None:
    found = kept("AllowPolicy", item(status={"number": 3}))
    assert found.content == document("a")
    assert (found.uid, found.generation, found.version, found.status) == ("u", 4, "9", {"number": 3})
    assert found.status_path == "/apis/doorward.dev/v1/namespaces/shop/allowpolicies/a/status"
    assert faults(item()) == []


def test_keys_beside_spec_reach_the_reader() -> None:
    assert faults(item(http=[{"methods": ["GET"]}])) == [
        "http: unknown key: write 'apiVersion' or 'kind' or 'metadata' or 'spec'"
    ]


@pytest.mark.parametrize(
    ("nulls", "path"),
    [
        ({"http": None}, "spec.http"),
        ({"mode": None}, "spec.mode"),
        ({"to": {"workload": "payments", "ports": None}}, "spec.to.workload"),
        ({"from": [{"workload": "checkout", "namespace": None}]}, "spec.from[0].namespace"),
        ({"unknown": None}, "spec.unknown"),
    ],
)
def test_an_empty_value_that_kubectl_left_out_is_put_back_and_refused(nulls: dict[str, Any], path: str) -> None:
    applied = document("a")
    applied["spec"] = {**applied["spec"], **nulls}
    found = item(applied)
    found["spec"].pop("ports", None)
    if "to" in nulls:
        del found["spec"]["to"]["ports"]
        path = "spec.to.ports"
    assert [each.split(":")[0] for each in faults(found)] == [path]


def test_what_was_filled_in_since_counts_and_not_the_annotation() -> None:
    applied = document("a")
    applied["spec"]["http"] = None
    found = item(applied)
    found["spec"]["http"] = [{"methods": ["GET"]}]
    assert faults(found) == []


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, '{"spec": 3}', '{"spec": {"from": [null]}}'])
def test_an_annotation_that_says_nothing_is_no_fault(text: str) -> None:
    assert faults(item(text)) == []


def test_what_is_nested_deeper_than_a_policy_is_cut_off() -> None:
    deep: Any = 1
    for _ in range(900):
        deep = [deep]
    found = item()
    found["spec"]["unknown"] = deep
    assert [each.split(":")[0] for each in faults(found)] == ["spec.unknown"]
    assert str(kept("AllowPolicy", found).content).count("[") < 2 * MAX_DEPTH


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(JSON, JSON, JSON)
def test_whatever_stands_in_an_object_is_a_document_or_faults(spec: Any, applied: Any, status: Any) -> None:
    found = kept("AllowPolicy", item({"spec": applied}, spec=spec, status=status))
    reading = read(found)
    assert (reading.document is None) == bool(reading.faults)


def test_a_vast_object_is_refused_before_anybody_reads_it() -> None:
    addresses = [f"10.{number // 250}.{number % 250}.0/24" for number in range(20_000)]
    spec = {"to": {"workload": "a"}, "from": [{"unauthenticated": True, "addresses": addresses}]}
    began = time.process_time()
    (fault,) = faults(item(spec=spec))
    assert time.process_time() - began < 1, "others' policies wait meanwhile"
    assert f"bytes as JSON, more than {MAX_BYTES}: make several policies of it" in fault
    assert addresses[1] not in str(kept("AllowPolicy", item(spec=spec)))
    assert faults(item(spec={**spec, "from": [{"unauthenticated": True, "addresses": addresses[:2000]}]})) == []
