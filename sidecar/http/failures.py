"""Every way in which an exchange ends without the upstream's own answer.

HttpEnded               ends with an answer of ours: `error`, `reason`, `status`, `detail`
    HttpRefused         the message breaks the law (400, 408, 421, 431, 501, 505), or the response does (502)
    Denied              policy, or what stands before it, said no (403)
    Failed              allowed, and failed on the way (500, 502, 503, 504)
Truncated               the peer's stream ended inside a message, or before the message that it owed
Aborted                 the response has begun, so no answer is possible: both ends are reset
"""

from typing import ClassVar

from mesh.policy.reasons import Reason

_STATUS = {
    Reason.NO_SNAPSHOT: 503,
    Reason.NO_OWN_CERTIFICATE: 503,
    Reason.OWN_CERTIFICATE_EXPIRED: 503,
    Reason.NO_ENDPOINT: 503,
    Reason.OVER_LIMIT: 503,
    Reason.DRAINING: 503,
    Reason.UPSTREAM_TIMEOUT: 504,
    Reason.INTERNAL_ERROR: 500,
}


class HttpEnded(Exception):
    """The exchange ends here, with an answer of ours. `detail` is a sentence of ours and quotes nothing (law 20)."""

    error: ClassVar[str]

    def __init__(self, reason: Reason, status: int, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail or status}")
        self.reason = reason
        self.status = status
        self.detail = detail


class HttpRefused(HttpEnded):
    """A message that breaks the law of refusals.py."""

    error = "refused"


class Denied(HttpEnded):
    """The caller may not make this request, or not any more."""

    error = "denied"

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(reason, 403, detail)


class Failed(HttpEnded):
    """Nothing was wrong with the request, yet no answer came. The status follows from the reason, mostly 502."""

    error = "failed"

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(reason, _STATUS.get(reason, 502), detail)


class Truncated(Exception):
    """A peer's stream ended inside a message. `begun` says whether a byte of the message had come."""

    def __init__(self, begun: bool) -> None:
        super().__init__("the stream ended inside a message" if begun else "the stream ended before the message")
        self.begun = begun


class Aborted(Exception):
    """The response had begun when `reason` came up: nothing is left but to reset both ends."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(str(reason))
        self.reason = reason
