"""Our own answers: 403 and every other status that no upstream sent. Pure.

    {"error": "denied", "reason": "no_policy_matched", "decision": "<id>", "snapshot": 12}

`error` is denied, refused or failed. `detail` may follow: a sentence of ours. Nothing of the request is reflected
(law 20); the decision id, also in a header, leads to the log line that knows more.
"""

import json
from datetime import datetime
from email.utils import format_datetime
from http import HTTPStatus

from sidecar.http import writing
from sidecar.http.failures import HttpEnded
from sidecar.http.headers import DECISION


def answer(
    ended: HttpEnded, *, decision: str, snapshot: int | None, now: datetime, head_only: bool, close: bool
) -> bytes:
    """The whole answer as bytes. `head_only`: to HEAD; `close`: the connection ends behind it."""
    said = {"error": ended.error, "reason": ended.reason.value, "decision": decision, "snapshot": snapshot}
    if ended.detail:
        said["detail"] = ended.detail
    body = json.dumps(said).encode() + b"\n"
    fields = [
        (b"content-type", b"application/json"),
        (b"cache-control", b"no-store"),
        (b"date", format_datetime(now, usegmt=True).encode()),
        (b"server", b"doorward"),
        (DECISION, decision.encode()),
    ]
    if close:
        fields.append((b"connection", b"close"))
    phrase = HTTPStatus(ended.status).phrase.encode()
    head = writing.response_head(ended.status, phrase, tuple(fields), len(body))
    return head if head_only else head + body
