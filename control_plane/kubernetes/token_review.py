"""Which pod a projected service-account token speaks for: only the API server that issued it can say (TokenReview).

    read_review      PURE: the API server's answer -> Attested, or why it proves nothing
    TokenReviewer    asks, for our own audience and never without it, a bounded number of times at once

A token proves a workload while the API server finds it genuine, made for our audience, and bound to a pod that exists:
one that was copied out of a pod ends with that pod.
Source: https://kubernetes.io/docs/reference/kubernetes-api/authentication-resources/token-review-v1
"""

import base64
import json
from typing import Any, Final

import trio
from attrs import define, field, frozen

from certs.errors import SpiffeIdMalformed
from certs.spiffe import MAX_NAME_BYTES, WorkloadName
from control_plane.kubernetes.api import KubernetesApi
from control_plane.kubernetes.errors import KubernetesError

PATH: Final = "/apis/authentication.k8s.io/v1/tokenreviews"
POD_NAME: Final = "authentication.kubernetes.io/pod-name"
POD_UID: Final = "authentication.kubernetes.io/pod-uid"

DETAIL_CHARACTERS: Final = 300
BEGINNING: Final = 20  # characters by which a token is known whose end was cut off


class ReviewRefused(Exception):
    """The token proves nothing. `code` is for programs; `detail` are the API server's words, for our own log only."""

    def __init__(self, code: str, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.detail = detail


@frozen
class Attested:
    """What the API server vouched for: the service account, as a workload, and the pod that its token is bound to."""

    workload: WorkloadName
    pod: str
    pod_uid: str

    @property
    def ground(self) -> dict[str, str]:
        """What the audit log says of it."""
        return {"service_account": str(self.workload), "pod": self.pod, "pod_uid": self.pod_uid}


def read_review(answer: Any, audience: str) -> Attested:
    """Whom an answered TokenReview vouches for. Raises ReviewRefused, whatever the answer is."""
    status = _object(answer, "status")
    if status.get("authenticated") is not True:
        raise ReviewRefused(
            "token_not_authenticated",
            "the cluster's API server does not take the token: it has expired, its pod or service account is gone, "
            "or it is from another cluster",
            str(status.get("error", ""))[:DETAIL_CHARACTERS],
        )
    if audience not in _texts(status, "audiences"):
        raise _wrong_audience(audience)
    user = _object(status, "user")
    workload = _service_account(user.get("username"))
    extra = _object(user, "extra") if user.get("extra") is not None else {}
    return Attested(workload, _one(extra, POD_NAME), _one(extra, POD_UID))


@define(eq=False)
class TokenReviewer:
    """Asks `_api` about tokens for `_audience`. `_at_once` and `_seconds` bound how many reviews run, and how long."""

    _api: KubernetesApi
    _audience: str
    _at_once: int = field()
    _seconds: float = field()
    _places: trio.CapacityLimiter = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._places = trio.CapacityLimiter(self._at_once)

    async def review(self, token: str) -> Attested:
        """Ask once. Raises ReviewRefused."""
        with trio.move_on_after(self._seconds):
            async with self._places:
                answer = await self._ask(token)
            try:
                return read_review(answer, self._audience)
            except ReviewRefused as refusal:
                if refusal.code == "token_not_authenticated" and _is_for_others(token, self._audience):
                    raise _wrong_audience(self._audience) from refusal
                refusal.detail = _without(token, refusal.detail)
                raise
        raise ReviewRefused("attestation_unavailable", f"the API server gave no answer within {self._seconds:g} s")

    async def _ask(self, token: str) -> Any:
        review = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [self._audience]},
        }
        try:
            return await self._api.create(PATH, review)
        except KubernetesError as error:
            raise ReviewRefused(
                "attestation_unavailable",
                "the control plane cannot ask the cluster's API server about the token: try again",
                _without(token, str(error))[:DETAIL_CHARACTERS],
            ) from error


def _without(token: str, text: str) -> str:
    """The text without the token, also where it was cut within."""
    before, found, _ = text.replace(token, "…").partition(token[:BEGINNING])
    return before + "…" if found else before


def _object(outer: Any, name: str) -> dict[str, Any]:
    inner = outer.get(name) if isinstance(outer, dict) else None
    if not isinstance(inner, dict):
        raise _unreadable(name)
    return inner


def _texts(outer: dict[str, Any], name: str) -> list[str]:
    """A list of texts; where it is missing, none: an authenticator that knows no audiences vouches for none."""
    found = outer.get(name)
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise _unreadable(name)
    return found


def _service_account(username: Any) -> WorkloadName:
    match username.split(":") if isinstance(username, str) else None:
        case ["system", "serviceaccount", namespace, name]:
            try:
                return WorkloadName(namespace, name)
            except SpiffeIdMalformed as error:
                raise ReviewRefused("token_not_a_service_account", f"no workload has such a name: {error}") from None
    raise ReviewRefused("token_not_a_service_account", "the token is a user's: only service accounts are workloads")


def _one(extra: dict[str, Any], name: str) -> str:
    values = _texts(extra, name)
    if len(values) != 1 or not 0 < len(values[0]) <= MAX_NAME_BYTES:
        raise ReviewRefused(
            "token_not_bound_to_a_pod",
            "the token is bound to no pod: mount a projected service-account token, which ends with its pod",
        )
    return values[0]


def _wrong_audience(audience: str) -> ReviewRefused:
    return ReviewRefused("token_wrong_audience", f"the token is not for the audience {audience}: project one that is")


def _unreadable(name: str) -> ReviewRefused:
    return ReviewRefused(
        "attestation_unavailable",
        "the cluster's API server answered something else than a TokenReview: try again",
        f"{name} is missing or of another type",
    )


def _is_for_others(token: str, audience: str) -> bool:
    """Whether the token itself says so. It is refused already: this only finds the words for it."""
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        audiences = claims["aud"]
    except (ValueError, IndexError, KeyError, TypeError, RecursionError):
        return False
    return audience not in (audiences if isinstance(audiences, list) else [audiences])
