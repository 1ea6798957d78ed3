"""Requests to an API server over real TLS: what goes out, and what each bad answer becomes."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from control_plane.kubernetes import api as api_module
from control_plane.kubernetes import transmission
from control_plane.kubernetes.api import KubernetesApi
from control_plane.kubernetes.errors import ApiRefused, ApiStrange, ApiUnreachable, KubernetesError
from control_plane.metrics import Metrics
from tests.support.api_server import Answer, ApiServer, Asked, api_server
from tests.support.patience import PATIENCE

FORBIDDEN = {"kind": "Status", "status": "Failure", "reason": "Forbidden", "message": "pods is forbidden", "code": 403}


@pytest.fixture
def answers() -> list[Answer]:
    """What the server says, one after the other; the last one again and again."""
    return [(200, {"kind": "Pod"})]


@pytest.fixture
def server(tmp_path: Path, answers: list[Answer]) -> Iterator[ApiServer]:
    """An API server of whose answers the test decides."""

    def answer(asked: Asked) -> Answer:
        return answers.pop(0) if len(answers) > 1 else answers[0]

    with api_server(tmp_path, answer) as server:
        yield server


def failed(api: KubernetesApi, reason: str) -> float:
    name = "doorward_control_plane_kubernetes_requests_failed_total"
    return api.contact.metrics.registry.get_sample_value(name, {"reason": reason}) or 0.0


@pytest.mark.parametrize(
    ("call", "method", "path", "body"),
    [
        (lambda api: api.get("/p", limit="5", labelSelector="a!=b"), "GET", "/p?limit=5&labelSelector=a%21%3Db", None),
        (lambda api: api.create("/p", {"a": 1}), "POST", "/p", {"a": 1}),
        (lambda api: api.replace("/p/x", {"a": 1}), "PUT", "/p/x", {"a": 1}),
        (lambda api: api.patch("/p/x", {"a": None}), "PATCH", "/p/x", {"a": None}),
        (lambda api: api.patch("/p/x", [], kind="json"), "PATCH", "/p/x", []),
        (lambda api: api.delete("/p/x", gracePeriodSeconds="0"), "DELETE", "/p/x?gracePeriodSeconds=0", None),
    ],
)  # fmt: skip
async def test_each_call_is_one_request(
    server: ApiServer, call: Callable[[KubernetesApi], Any], method: str, path: str, body: object
) -> None:
    async with server.api() as api:
        await call(api)
    (asked,) = server.asked
    assert (asked.method, asked.path, asked.body) == (method, path, body)


async def test_a_refusal_carries_status_reason_and_message(server: ApiServer, answers: list[Answer]) -> None:
    answers[:] = [(403, FORBIDDEN)]
    async with server.api() as api:
        with pytest.raises(ApiRefused, match="pods is forbidden") as refused:
            await api.get("/api/v1/pods")
        assert (refused.value.status, refused.value.reason) == (403, "Forbidden")
        assert (api.contact.away, failed(api, "403")) == ("", 1)


@pytest.mark.parametrize("said", [b"", b"<html>", b"[]", b"null", b'"x"'])
async def test_an_answer_that_is_no_object_is_refused(server: ApiServer, answers: list[Answer], said: bytes) -> None:
    answers[:] = [(200, said), (502, said)]
    async with server.api() as api:
        with pytest.raises(ApiStrange):
            await api.get("/api/v1/pods")
        with pytest.raises(ApiRefused) as refused:
            await api.get("/api/v1/pods")
    assert refused.value.status == 502


async def test_an_answer_beyond_the_limit_is_not_read(
    server: ApiServer, answers: list[Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_module, "BODY_BYTES", 1000)
    answers[:] = [(200, {"x": "y" * 1000})]
    async with server.api() as api:
        with pytest.raises(ApiStrange, match="1000 bytes"):
            await api.get("/api/v1/pods")


async def test_a_large_answer_is_parsed_elsewhere(
    server: ApiServer, answers: list[Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_module, "IN_THREAD_BYTES", 10)
    answers[:] = [(200, {"x": "y" * 1000})]
    async with server.api() as api:
        assert await api.get("/api/v1/pods") == {"x": "y" * 1000}


async def test_who_does_not_answer_in_time_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()

    def answer(asked: Asked) -> Answer:
        over.wait(PATIENCE)
        return 200, {}

    monkeypatch.setattr(api_module, "REQUEST_SECONDS", 0.2)
    monkeypatch.setattr(api_module, "SILENCE_SECONDS", 0.2)
    with api_server(tmp_path, answer) as server:
        async with server.api() as api:
            with pytest.raises(ApiUnreachable, match="within 0\\.2 s"):
                await api.get("/api/v1/pods")
            with pytest.raises(ApiUnreachable, match="stopped answering"):
                async with api.watch("/api/v1/pods"):
                    pass
            assert failed(api, "unreachable") == 2
        over.set()


async def test_who_is_away_and_back_is_said_once_each(
    server: ApiServer, answers: list[Answer], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "doorward.kubernetes")
    answers[:] = [(503, b""), (500, b""), (429, b""), (403, FORBIDDEN), (404, {})]
    async with server.api() as api:
        here, api._transmission.url = api.url, "https://127.0.0.1:1"
        for _ in range(2):
            with pytest.raises(ApiUnreachable):
                await api.get("/api/v1/pods")
        api._transmission.url = here
        for away in (True, True, True, True, False):  # one that is starting says such things
            with pytest.raises(ApiRefused):
                await api.get("/api/v1/pods")
            assert bool(api.contact.away) == away
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


async def test_a_server_of_another_ca_is_told_nothing(server: ApiServer, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with api_server(tmp_path / "other", lambda asked: (200, {})):
        other = tmp_path / "other" / "api-server.pem"
        token = tmp_path / "token"
        token.write_text("secret")
        url = f"https://127.0.0.1:{server.port}"
        async with KubernetesApi.open(url, ca=other, token_file=token, metrics=Metrics()) as api:
            with pytest.raises(ApiUnreachable, match="certificate verify failed"):
                await api.get("/api/v1/pods")
    assert server.asked == []


@pytest.mark.parametrize("content", [None, b"", b"  \n", b"\xff", b"two words", b"a\nb"])
async def test_without_a_usable_token_nothing_is_sent(server: ApiServer, tmp_path: Path, content: bytes | None) -> None:
    async with server.api() as api:
        token = tmp_path / "own-token"
        token.unlink() if content is None else token.write_bytes(content)
        with pytest.raises(ApiUnreachable, match="token"):
            await api.get("/api/v1/pods")
        assert server.asked == []
        token.write_text("good\n")  # as a projected token that was there late
        await api.get("/api/v1/pods")


async def test_only_so_many_requests_run_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_module, "REQUESTS", 3)
    at_once, most, lock, full = 0, 0, threading.Lock(), threading.Event()

    def answer(asked: Asked) -> Answer:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
            if most == 3:
                full.set()
        full.wait(PATIENCE)
        time.sleep(0.05)  # for a fourth
        with lock:
            at_once -= 1
        return 200, {}

    with api_server(tmp_path, answer) as server:
        async with server.api() as api, trio.open_nursery() as nursery:
            for _ in range(9):
                nursery.start_soon(api.get, "/api/v1/pods")
    assert most == 3


@pytest.mark.parametrize(
    "lines",
    [
        b"{", b'{"type": "ADDED", "object": {}', b"[]\n", b'{"object": {}}\n', b'{"type": "ADDED"}\n',
        b'{"type": "ADDED", "object": []}\n', b"\xff\n", b"[" * 10_000 + b"\n",
    ],
)  # fmt: skip
async def test_a_malformed_event_ends_the_watch(server: ApiServer, answers: list[Answer], lines: bytes) -> None:
    good = b'{"type": "ADDED", "object": {"n": 1}}\n'
    answers[:] = [(200, good + b"\n" + lines)]
    async with server.api() as api, api.watch("/api/v1/pods") as events:
        assert (await anext(events))["object"] == {"n": 1}
        with pytest.raises(ApiStrange):
            await anext(events)


async def test_an_event_beyond_the_limit_is_not_read(
    server: ApiServer, answers: list[Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_module, "EVENT_BYTES", 1000)
    answers[:] = [(200, b'{"type": "ADDED", "object": {"x": "' + b"y" * 2000)]
    async with server.api() as api, api.watch("/api/v1/pods") as events:
        with pytest.raises(ApiStrange, match="1000 bytes"):
            await anext(events)


async def test_the_largest_object_is_an_event_of_its_own(server: ApiServer, answers: list[Answer]) -> None:
    """1.5 MiB in etcd, of characters for which Go writes six bytes each."""
    vast = b"\\u003c" * (3 * 1024 * 512)
    answers[:] = [(200, b'{"type": "ADDED", "object": {"x": "' + vast + b'"}}\n')]
    async with server.api() as api, api.watch("/api/v1/pods") as events:
        assert (await anext(events))["object"] == {"x": "<" * (3 * 1024 * 512)}


async def test_a_refused_watch_is_a_refusal(server: ApiServer, answers: list[Answer]) -> None:
    answers[:] = [(403, FORBIDDEN)]
    async with server.api() as api:
        with pytest.raises(ApiRefused):
            async with api.watch("/api/v1/pods", resourceVersion="5"):
                pass
    assert server.asked[0].path == "/api/v1/pods?resourceVersion=5&watch=true"


@pytest.mark.parametrize("name", ["a b", "caf\u00e9", "\ud800"])
async def test_a_name_that_no_request_can_carry_is_strange(server: ApiServer, name: str) -> None:
    async with server.api() as api:
        with pytest.raises(ApiStrange):
            await api.get(f"/api/v1/namespaces/{name}")
    assert server.asked == []


async def test_nobody_listening_is_unreachable(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transmission, "CONNECT_SECONDS", 5.0)
    api = server.api()
    api._transmission.url = "https://127.0.0.1:1"
    async with api:
        with pytest.raises(KubernetesError, match="no API server answers on https://127"):
            await api.get("/api/v1/pods")
