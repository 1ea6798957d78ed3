"""Applications that fail: every failure becomes one answer with a reason, and the next call is served."""

import json

import pytest
import trio

from examples.demo.local_mesh import LocalMesh, http_get
from examples.demo.ports import free_port
from tests.support.applications import Application, exchange, get, serving
from tests.support.policies import allow


async def resetting(_: Application, stream: trio.SocketStream) -> None:
    await stream.receive_some(1)


async def babbling(_: Application, stream: trio.SocketStream) -> None:
    await stream.receive_some(65536)
    await stream.send_all(b"SSH-2.0-OpenSSH_9.2\r\n")


async def silent(_: Application, stream: trio.SocketStream) -> None:
    await stream.receive_some(65536)
    await trio.sleep_forever()


@pytest.mark.parametrize(
    ("handler", "status", "reason"),
    [
        (resetting, 502, "upstream_reset"),
        (babbling, 502, "upstream_malformed"),
        (silent, 504, "upstream_timeout"),
        (None, 502, "upstream_refused"),
    ],
    ids=["reset", "garbage", "silence", "refused"],
)
async def test_a_failing_application_is_answered_for_with_its_reason(
    mesh: LocalMesh, handler: object, status: int, reason: str
) -> None:
    waiting = ["--response-head-timeout", "1s"] if handler is silent else []  # who answers may take its time
    async with serving(handler or resetting) as application:  # type: ignore[arg-type]  # one of the three above
        port = application.port if handler else free_port()
        payments = await mesh.start_sidecar(
            "shop/payments",
            *waiting,
            inbound=[f"127.0.0.1:0=127.0.0.1:{port}/http,port=8080"],
        )
        checkout = await mesh.start_sidecar("shop/checkout", outbound=["127.0.0.1:0=shop/payments:8080"])
        await allow(mesh, "checkout", "payments", 8080)
        for _ in range(2):
            answer = await exchange(checkout.outbound["shop/payments:8080"], get("/"))
            assert int(answer.split()[1]) == status, answer
            assert json.loads(answer.partition(b"\r\n\r\n")[2])["reason"] == reason
        _, metrics = await http_get(payments.observe, "/metrics")
        assert f'doorward_sidecar_failed_total{{direction="inbound",reason="{reason}"}} 2.0' in metrics


async def test_a_destination_without_an_endpoint_is_answered_503(mesh: LocalMesh) -> None:
    checkout = await mesh.start_sidecar("shop/checkout", outbound=["127.0.0.1:0=shop/payments:8080"])
    answer = await exchange(checkout.outbound["shop/payments:8080"], get("/"))
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b'"no_endpoint"' in answer
