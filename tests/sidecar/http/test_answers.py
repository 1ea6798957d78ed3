"""Our own answers: their shape is part of the interface, and they reflect nothing."""

import json
from datetime import UTC, datetime

import pytest

from mesh.policy.reasons import Reason
from sidecar.http.answers import answer
from sidecar.http.failures import Denied, Failed, HttpEnded, HttpRefused
from sidecar.http.heads import ResponseHead, values
from sidecar.http.reading import ResponseReader

NOW = datetime(2026, 11, 22, 7, 0, 50, tzinfo=UTC)


def read(ended: HttpEnded, *, head_only: bool = False, close: bool = False) -> tuple[ResponseHead, bytes]:
    raw = answer(ended, decision="payments-1-ab", snapshot=12, now=NOW, head_only=head_only, close=close)
    reader = ResponseReader(4096)
    reader.expect("HEAD" if head_only else "GET")
    reader.feed(raw)
    head = reader.next_event()
    assert isinstance(head, ResponseHead)
    body = reader.next_event()
    return head, body if isinstance(body, bytes) else b""


def test_a_denial_says_reason_decision_and_snapshot() -> None:
    head, body = read(Denied(Reason.NO_POLICY_MATCHED))
    assert (head.status, head.reason) == (403, b"Forbidden")
    assert json.loads(body) == {
        "error": "denied",
        "reason": "no_policy_matched",
        "decision": "payments-1-ab",
        "snapshot": 12,
    }
    assert values(head.fields, b"x-doorward-decision") == [b"payments-1-ab"]
    assert values(head.fields, b"server") == [b"doorward"]
    assert values(head.fields, b"date") == [b"Sun, 22 Nov 2026 07:00:50 GMT"]
    assert head.persistent


def test_an_answer_to_head_announces_the_body_that_it_leaves_out() -> None:
    head, body = read(Denied(Reason.NO_POLICY_MATCHED), head_only=True)
    assert body == b""
    assert head.announced == len(read(Denied(Reason.NO_POLICY_MATCHED))[1])


def test_an_answer_that_ends_the_connection_says_so() -> None:
    assert not read(Denied(Reason.BANNED), close=True)[0].persistent


@pytest.mark.parametrize(
    ("ended", "status", "error"),
    [
        (HttpRefused(Reason.HEAD_TOO_LARGE, 431, "too large"), 431, "refused"),
        (HttpRefused(Reason.FOREIGN_HOST, 421, "foreign"), 421, "refused"),
        (HttpRefused(Reason.MALFORMED_REQUEST, 505, "version"), 505, "refused"),
        (Failed(Reason.UPSTREAM_REFUSED), 502, "failed"),
        (Failed(Reason.UPSTREAM_RESET), 502, "failed"),
        (Failed(Reason.UPSTREAM_MALFORMED), 502, "failed"),
        (Failed(Reason.WRONG_SERVER_IDENTITY), 502, "failed"),
        (Failed(Reason.UPSTREAM_TIMEOUT), 504, "failed"),
        (Failed(Reason.NO_ENDPOINT), 503, "failed"),
        (Failed(Reason.NO_SNAPSHOT), 503, "failed"),
        (Failed(Reason.OWN_CERTIFICATE_EXPIRED), 503, "failed"),
    ],
)
def test_the_status_and_error_of_what_else_can_end_a_request(ended: HttpEnded, status: int, error: str) -> None:
    head, body = read(ended)
    assert head.status == status
    said = json.loads(body)
    assert (said["error"], said["reason"], said.get("detail", "")) == (error, ended.reason, ended.detail)
