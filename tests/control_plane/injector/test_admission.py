"""What the log says of an admission: names and outcome, whatever the body was."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.injector.admission import MAX_NAME, Admission
from tests.support.examples import examples
from tests.support.webhooks import admission_review, answer

JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["request", "object", "metadata", "name", "namespace", "dryRun"]), inner)
    ),
)


@pytest.mark.parametrize(
    ("request_", "name"),
    [
        ({"name": "checkout-1"}, "checkout-1"),
        ({"object": {"metadata": {"name": "checkout-2", "generateName": "checkout-"}}}, "checkout-2"),
        ({"object": {"metadata": {"generateName": "checkout-"}}}, "checkout-"),
        ({"object": {"metadata": {}}}, ""),
        ({"object": None}, ""),
        ({"name": "n" * 300}, "n" * MAX_NAME),
    ],
)
def test_a_pod_is_called_by_what_name_there_is(request_: dict[str, Any], name: str) -> None:
    assert Admission.of(admission_review(**request_), answer()).name == name


@pytest.mark.parametrize("body", [b"", b"\xff", b"[" * 100_000, b"null", b'{"request": []}', b'"\\ud800"'])
def test_a_body_that_is_no_review_has_no_names(body: bytes) -> None:
    said = answer(allowed=False, status={"message": "this is no AdmissionReview"})
    assert Admission.of(body, said) == Admission("", "", False, "refused", "this is no AdmissionReview")


@examples(50)
@given(JSON)
def test_whatever_the_body_says_is_read_or_left_out(content: Any) -> None:
    found = Admission.of(json.dumps(content).encode(), answer())
    assert len(found.namespace) <= MAX_NAME
    assert len(found.name) <= MAX_NAME
    assert found.outcome == "skipped"
