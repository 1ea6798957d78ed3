"""Service accounts' tokens: the cluster is asked about each, for every certificate, and what it says is held to."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from certs.csr import build_csr
from certs.keys import new_key
from certs.svid import Svid
from control_plane.kubernetes.token_review import TokenReviewer
from control_plane.push.office import in_thread
from control_plane.settings import Limits
from mesh.wire import Certificate, CertificateRequest, Message, Nack, Unknown
from tests.support.api_server import Answer, ApiServer, Asked, api_server
from tests.support.plane import DOMAIN, Caller, Plane, names_of
from tests.support.reviews import attested, refused

CHECKOUT = "eyJ.checkout.sig"
PAYMENTS = "eyJ.payments.sig"
ELSEWHERE = "eyJ.elsewhere.sig"

CLUSTER = {
    CHECKOUT: attested("shop", "checkout", pod="checkout-1"),
    PAYMENTS: attested("shop", "payments"),
    ELSEWHERE: attested("shop", "checkout", audience="vault"),
}


def cluster(asked: Asked) -> Answer:
    """Knows the tokens above."""
    return 201, CLUSTER.get(asked.body["spec"]["token"], refused("[invalid bearer token, unknown]"))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ApiServer]:
    with api_server(tmp_path, cluster) as server:
        yield server


@pytest.fixture
async def reviewer(server: ApiServer, limits: Limits) -> AsyncIterator[TokenReviewer]:
    async with server.api() as api:
        yield TokenReviewer(api, "doorward", limits.reviews_at_once, limits.review_timeout)


def request(token: str | None, expected: str | None = None) -> CertificateRequest:
    return CertificateRequest(build_csr(new_key()), token, expected)


async def ask(plane: Plane, message: CertificateRequest, caller: Caller | None = None) -> Message | Unknown | None:
    caller = caller or await plane.link()
    return await caller.ask(message)


async def refusal(plane: Plane, message: CertificateRequest, caller: Caller | None = None) -> str:
    answer = await ask(plane, message, caller)
    assert isinstance(answer, Nack), answer
    assert answer.about == "CertificateRequest"
    return answer.code


async def joined(plane: Plane, token: str = CHECKOUT) -> Caller:
    """A link under a certificate that the token bought."""
    key = new_key()
    answer = await ask(plane, CertificateRequest(build_csr(key), token))
    assert isinstance(answer, Certificate), answer
    return await plane.link(Svid.build(key, answer.chain))


async def test_a_pods_token_buys_the_certificate_of_its_service_account(plane: Plane, server: ApiServer) -> None:
    answer = await ask(plane, request(CHECKOUT, "spiffe://cluster.local/ns/shop/sa/checkout"))
    assert isinstance(answer, Certificate)
    assert names_of(answer.chain) == [str(DOMAIN.workload("shop", "checkout"))]
    assert plane.count("certificates_issued_total", method="kubernetes") == 1
    (asked,) = server.asked
    assert asked.body["spec"]["audiences"] == ["doorward"]
    entry = (await in_thread(plane.office.store.audit))[-1]
    assert entry.detail["method"] == "kubernetes"
    assert (entry.detail["service_account"], entry.detail["pod"]) == ("shop/checkout", "checkout-1")


async def test_every_renewal_asks_the_cluster_again(plane: Plane, server: ApiServer) -> None:
    caller = await joined(plane)
    assert await refusal(plane, request(None), caller) == "token_required"
    assert isinstance(await ask(plane, request(CHECKOUT), caller), Certificate)
    assert len(server.asked) == 2
    server.answer = lambda _: (201, refused("the pod is gone"))
    assert await refusal(plane, request(CHECKOUT), caller) == "token_not_authenticated"
    assert plane.count("certificates_issued_total", method="kubernetes") == 2


async def test_a_join_token_is_nothing_that_the_cluster_is_asked_about(plane: Plane, server: ApiServer) -> None:
    caller = await plane.link(await plane.svid())
    assert isinstance(await ask(plane, request(None), caller), Certificate), "and its certificate renews itself"
    assert server.asked == []


@pytest.mark.parametrize(
    ("token", "code"), [("eyJ.unknown.sig", "token_not_authenticated"), (ELSEWHERE, "token_wrong_audience")]
)
async def test_a_refusal_is_counted_and_logged_without_the_token(
    plane: Plane, caplog: pytest.LogCaptureFixture, token: str, code: str
) -> None:
    assert await refusal(plane, request(token)) == code
    assert plane.count("requests_refused_total", about="CertificateRequest", code=code) == 1
    said = [vars(record)["fields"] for record in caplog.records if record.message == "certificate refused"]
    assert [(each["code"], each["address"]) for each in said] == [(code, "127.0.0.1")]
    assert token not in "".join(str(vars(record)) for record in caplog.records)
    assert plane.count("certificates_issued_total", method="kubernetes") == 0


async def test_the_log_says_what_the_api_server_found_and_the_caller_is_not_told(
    plane: Plane, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await ask(plane, request("eyJ.unknown.sig"))
    assert isinstance(answer, Nack)
    assert "invalid bearer token" not in answer.message
    (said,) = [vars(record)["fields"] for record in caplog.records if record.message == "certificate refused"]
    assert said["detail"] == "[invalid bearer token, unknown]"


async def test_an_api_server_that_is_away_is_said_and_an_old_certificate_goes_on(
    plane: Plane, server: ApiServer
) -> None:
    caller = await joined(plane)
    server.answer = lambda _: (503, {})
    assert await refusal(plane, request(CHECKOUT), caller) == "attestation_unavailable"
    assert plane.count("requests_refused_total", about="CertificateRequest", code="attestation_unavailable") == 1
    server.answer = cluster
    assert isinstance(await ask(plane, request(CHECKOUT), caller), Certificate), "the link still stands"


async def test_a_token_of_another_service_account_than_expected_or_linked_buys_nothing(plane: Plane) -> None:
    expected = "spiffe://cluster.local/ns/shop/sa/checkout"
    assert await refusal(plane, request(PAYMENTS, expected)) == "token_for_other_workload"
    assert await refusal(plane, request(PAYMENTS), await joined(plane)) == "token_for_other_workload"
    joined_with_a_join_token = await plane.link(await plane.svid("shop/checkout"))
    assert await refusal(plane, request(PAYMENTS), joined_with_a_join_token) == "token_for_other_workload"
    assert len(await in_thread(plane.office.store.issuances)) == 2


async def test_a_banned_service_account_gets_nothing_from_any_of_its_pods(plane: Plane) -> None:
    await plane.ban("spiffe://cluster.local/ns/shop/sa/checkout")
    assert await refusal(plane, request(CHECKOUT)) == "banned"
    assert isinstance(await ask(plane, request(PAYMENTS)), Certificate)


async def test_a_bad_signing_request_asks_the_cluster_nothing(plane: Plane, server: ApiServer) -> None:
    assert await refusal(plane, CertificateRequest(b"garbage", CHECKOUT)) == "csr_refused"
    assert server.asked == []


class TestWithoutACluster:
    @pytest.fixture
    def reviewer(self) -> None:
        return None

    async def test_a_pods_token_is_refused_by_name(self, plane: Plane) -> None:
        assert await refusal(plane, request(CHECKOUT)) == "kubernetes_not_enabled"
        assert plane.count("requests_refused_total", about="CertificateRequest", code="kubernetes_not_enabled") == 1


class TestLimits:
    @pytest.fixture
    def limits(self) -> Limits:
        return Limits(renewals_per_minute=3)

    async def test_an_identity_that_joins_anew_each_time_gets_only_so_many(self, plane: Plane) -> None:
        plane.begin_minute()
        for _ in range(3):
            assert isinstance(await ask(plane, request(CHECKOUT)), Certificate)
        assert await refusal(plane, request(CHECKOUT)) == "too_many_renewals"

    async def test_an_identity_asks_only_so_often(self, plane: Plane, server: ApiServer) -> None:
        plane.begin_minute()
        caller = await joined(plane)
        for _ in range(2):
            assert isinstance(await ask(plane, request(CHECKOUT), caller), Certificate)
        assert await refusal(plane, request(CHECKOUT), caller) == "too_many_renewals"
        assert len(server.asked) == 3, "and the cluster is not asked"
