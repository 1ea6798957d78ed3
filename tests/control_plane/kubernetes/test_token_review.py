"""Whom a service-account token speaks for: the API server's answer read strictly, and asked for within bounds."""

import base64
import copy
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from certs.spiffe import WorkloadName
from control_plane.kubernetes.token_review import (
    PATH,
    POD_NAME,
    POD_UID,
    Attested,
    ReviewRefused,
    TokenReviewer,
    read_review,
)
from tests.support.api_server import Answer, ApiServer, Asked, api_server
from tests.support.patience import PATIENCE
from tests.support.reviews import attested, refused

GOOD = attested("shop", "checkout", pod="checkout-1", uid="0f3c")


def spoilt(*path: str, to: Any = ...) -> dict[str, Any]:
    """The good answer with the field at `path` replaced, or without it."""
    answer = copy.deepcopy(GOOD)
    inner: Any = answer
    for name in path[:-1]:
        inner = inner[name]
    if to is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = to
    return answer


def test_a_good_answer_names_service_account_and_pod() -> None:
    found = read_review(GOOD, "doorward")
    assert found == Attested(WorkloadName("shop", "checkout"), "checkout-1", "0f3c")
    assert found.ground == {"service_account": "shop/checkout", "pod": "checkout-1", "pod_uid": "0f3c"}


AUTHENTICATED, AUDIENCES = ("status", "authenticated"), ("status", "audiences")
USER, NAME, EXTRA = ("status", "user"), ("status", "user", "username"), ("status", "user", "extra")
POD, UID = (*EXTRA, POD_NAME), (*EXTRA, POD_UID)

UNAVAILABLE, NOT_AUTHENTICATED = "attestation_unavailable", "token_not_authenticated"
WRONG_AUDIENCE, NO_ACCOUNT, NO_POD = "token_wrong_audience", "token_not_a_service_account", "token_not_bound_to_a_pod"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (None, UNAVAILABLE),
        ([], UNAVAILABLE),
        ("status", UNAVAILABLE),
        ({}, UNAVAILABLE),
        (spoilt("status"), UNAVAILABLE),
        (spoilt("status", to=None), UNAVAILABLE),
        (spoilt("status", to=[]), UNAVAILABLE),
        (spoilt(*AUTHENTICATED), NOT_AUTHENTICATED),
        (spoilt(*AUTHENTICATED, to=False), NOT_AUTHENTICATED),
        (spoilt(*AUTHENTICATED, to="true"), NOT_AUTHENTICATED),
        (spoilt(*AUTHENTICATED, to=1), NOT_AUTHENTICATED),
        (spoilt(*AUTHENTICATED, to=[True]), NOT_AUTHENTICATED),
        (spoilt(*AUDIENCES), WRONG_AUDIENCE),
        (spoilt(*AUDIENCES, to=[]), WRONG_AUDIENCE),
        (spoilt(*AUDIENCES, to=["https://kubernetes.default.svc"]), WRONG_AUDIENCE),
        (spoilt(*AUDIENCES, to=["doorward2", "door", "Doorward", " doorward"]), WRONG_AUDIENCE),
        (spoilt(*AUDIENCES, to="doorward"), UNAVAILABLE),
        (spoilt(*AUDIENCES, to={"doorward": 1}), UNAVAILABLE),
        (spoilt(*AUDIENCES, to=["doorward", 7]), UNAVAILABLE),
        (spoilt(*USER), UNAVAILABLE),
        (spoilt(*USER, to="system:serviceaccount:shop:checkout"), UNAVAILABLE),
        (spoilt(*NAME), NO_ACCOUNT),
        (spoilt(*NAME, to=None), NO_ACCOUNT),
        (spoilt(*NAME, to=["system:serviceaccount:shop:checkout"]), NO_ACCOUNT),
        (spoilt(*NAME, to="ann"), NO_ACCOUNT),
        (spoilt(*NAME, to="system:node:one"), NO_ACCOUNT),
        (spoilt(*NAME, to="system:serviceaccount:shop"), NO_ACCOUNT),
        (spoilt(*NAME, to="system:serviceaccount:shop:checkout:more"), NO_ACCOUNT),
        (spoilt(*NAME, to="system:serviceaccounts:shop:checkout"), NO_ACCOUNT),
        (spoilt(*NAME, to="system:serviceaccount:shop:checkout/../payments"), NO_ACCOUNT),
        (spoilt(*NAME, to="system:serviceaccount::checkout"), NO_ACCOUNT),
        (spoilt(*NAME, to="system:serviceaccount:shop:"), NO_ACCOUNT),
        (spoilt(*NAME, to="system:serviceaccount:..:checkout"), NO_ACCOUNT),
        (spoilt(*NAME, to=" system:serviceaccount:shop:checkout"), NO_ACCOUNT),
        (spoilt(*NAME, to="system:serviceaccount:shop:" + "a" * 254), NO_ACCOUNT),
        (spoilt(*EXTRA), NO_POD),
        (spoilt(*EXTRA, to=None), NO_POD),
        (spoilt(*EXTRA, to={}), NO_POD),
        (spoilt(*EXTRA, to=[POD_NAME]), UNAVAILABLE),
        (spoilt(*POD), NO_POD),
        (spoilt(*POD, to=[]), NO_POD),
        (spoilt(*POD, to=[""]), NO_POD),
        (spoilt(*POD, to=["one", "two"]), NO_POD),
        (spoilt(*POD, to=["x" * 254]), NO_POD),
        (spoilt(*POD, to="checkout-1"), UNAVAILABLE),
        (spoilt(*UID), NO_POD),
        (spoilt(*UID, to=[]), NO_POD),
        (spoilt(*UID, to=[None]), UNAVAILABLE),
    ],
    ids=lambda value: value if isinstance(value, str) else json.dumps(value)[80:200],
)
def test_an_answer_that_lacks_anything_vouches_for_nobody(answer: Any, code: str) -> None:
    with pytest.raises(ReviewRefused) as caught:
        read_review(answer, "doorward")
    assert caught.value.code == code


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from([("status",), AUTHENTICATED, AUDIENCES, USER, NAME, EXTRA, POD, UID]), JSON)
def test_whatever_stands_in_a_field_it_vouches_for_this_pod_or_for_none(path: tuple[str, ...], value: Any) -> None:
    try:
        found = read_review(spoilt(*path, to=value), "doorward")
    except ReviewRefused:
        return
    if path not in {POD, UID}:
        assert found == read_review(GOOD, "doorward")


@asynccontextmanager
async def reviewer(
    directory: Path, answer: Callable[[Asked], Answer], *, at_once: int = 4, seconds: float = PATIENCE
) -> AsyncIterator[tuple[ApiServer, TokenReviewer]]:
    with api_server(directory, answer) as server:
        async with server.api() as api:
            yield server, TokenReviewer(api, "doorward", at_once, seconds)


def token_for(*audiences: str) -> str:
    payload = base64.urlsafe_b64encode(json.dumps({"aud": list(audiences), "exp": 1}).encode()).rstrip(b"=").decode()
    return f"e30.{payload}.c2ln"


async def refusal(asked: TokenReviewer, token: str) -> ReviewRefused:
    with pytest.raises(ReviewRefused) as caught:
        await asked.review(token)
    assert token not in str(caught.value) + caught.value.detail
    return caught.value


async def test_the_api_server_is_asked_once_for_our_audience(tmp_path: Path) -> None:
    async with reviewer(tmp_path, lambda _: (201, GOOD)) as (server, asks):
        assert (await asks.review(token_for("doorward"))).workload == WorkloadName("shop", "checkout")
        (asked,) = server.asked
    assert (asked.method, asked.path) == ("POST", PATH)
    assert asked.body["spec"] == {"token": token_for("doorward"), "audiences": ["doorward"]}


async def test_a_refused_token_is_not_asked_about_without_the_audience(tmp_path: Path) -> None:
    async with reviewer(tmp_path, lambda _: (201, refused("token audiences are invalid"))) as (server, asks):
        assert (await refusal(asks, token_for("https://kubernetes.default.svc"))).code == "token_wrong_audience"
        assert len(server.asked) == 1


@pytest.mark.parametrize("token", [token_for("doorward", "other"), "e30.e30.c2ln", "e30.!!!.x", "e30.bm8.x", "a.b.c"])
async def test_what_the_token_says_of_itself_explains_no_more_than_its_audience(tmp_path: Path, token: str) -> None:
    async with reviewer(tmp_path, lambda _: (201, refused(f"[invalid bearer token {token}, expired]"))) as (_, asks):
        refusal_ = await refusal(asks, token)
    assert refusal_.code == "token_not_authenticated"
    assert refusal_.detail == "[invalid bearer token …, expired]"


@pytest.mark.parametrize("status", [201, 500])
async def test_a_token_in_the_answer_is_left_out_also_where_the_answer_is_cut(tmp_path: Path, status: int) -> None:
    token = token_for("doorward", "x" * 600)
    said = f"what comes before {token}"
    answer = refused(said) if status == 201 else {"kind": "Status", "message": said}
    async with reviewer(tmp_path, lambda _: (status, answer)) as (_, asks):
        refusal_ = await refusal(asks, token)
    assert "what comes before" in refusal_.detail
    assert token[:30] not in refusal_.detail


def forbidden(asked: Asked) -> Answer:
    return 403, {"kind": "Status", "reason": "Forbidden", "message": f"cannot create {asked.body['spec']['token']}"}


@pytest.mark.parametrize(
    "answer",
    [forbidden, lambda _: (500, b"oops"), lambda _: (200, b"<html>"), lambda _: (200, [GOOD]), lambda _: (200, {})],
    ids=["forbidden", "broken", "no JSON", "a list", "empty"],
)
async def test_an_api_server_that_does_not_answer_the_question_is_unavailable(
    tmp_path: Path, answer: Callable[[Asked], Answer]
) -> None:
    async with reviewer(tmp_path, answer) as (_, asks):
        refused_ = await refusal(asks, token_for("doorward"))
    assert refused_.code == "attestation_unavailable"
    assert refused_.detail


async def test_an_api_server_that_is_away_is_unavailable(tmp_path: Path) -> None:
    async with reviewer(tmp_path, lambda _: (201, GOOD)) as (server, asks):
        server.port = 1
        async with server.api() as api:
            refused_ = await refusal(TokenReviewer(api, "doorward", 4, 5.0), token_for("doorward"))
            assert refused_.code == "attestation_unavailable"
        assert (await asks.review(token_for("doorward"))).pod == "checkout-1"


@contextmanager
def gate() -> Iterator[tuple[Callable[[Asked], Answer], threading.Semaphore]]:
    """An answer that comes when the block ends, and a count of who waits for it."""
    opened, arrived = threading.Event(), threading.Semaphore(0)

    def late(_: Asked) -> Answer:
        arrived.release()
        opened.wait()
        return 201, GOOD

    try:
        yield late, arrived
    finally:
        opened.set()


async def test_only_so_many_are_asked_about_at_once(tmp_path: Path) -> None:
    async with reviewer(tmp_path, lambda _: (201, GOOD), at_once=2, seconds=60) as (server, asks):
        with gate() as (server.answer, arrived):
            async with trio.open_nursery() as nursery:
                for _ in range(6):
                    nursery.start_soon(asks.review, token_for("doorward"))
                for _ in range(2):
                    await trio.to_thread.run_sync(arrived.acquire)
                await trio.testing.wait_all_tasks_blocked(0.1)
                assert len(server.asked) == 2
                nursery.cancel_scope.cancel()


async def test_nobody_waits_for_ever(tmp_path: Path) -> None:
    async with reviewer(tmp_path, lambda _: (201, GOOD), at_once=1, seconds=0.2) as (server, asks):
        codes: list[str] = []

        async def ask() -> None:
            codes.append((await refusal(asks, token_for("doorward"))).code)

        with gate() as (server.answer, _):
            async with trio.open_nursery() as nursery:
                for _number in range(3):
                    nursery.start_soon(ask)
    assert codes == ["attestation_unavailable"] * 3
