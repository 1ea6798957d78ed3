"""A call through two sidecars: allowed by a policy, or refused with a reason that can be looked up."""

import json

from examples.demo.local_mesh import LocalMesh, http_get, wait_for
from tests.support.applications import answering, exchange, get, refusals, serving
from tests.support.policies import allow, apply


async def test_an_allowed_call_arrives_with_the_callers_identity_and_a_refused_one_explains_itself(
    mesh: LocalMesh,
) -> None:
    async with serving(answering) as application:
        payments = await mesh.start_sidecar(
            "shop/payments", inbound=[f"127.0.0.1:0=127.0.0.1:{application.port}/http,port=8080"]
        )
        checkout = await mesh.start_sidecar("shop/checkout", outbound=["127.0.0.1:0=shop/payments:8080"])
        frontend = await mesh.start_sidecar("shop/frontend", outbound=["127.0.0.1:0=shop/payments:8080"])
        door, other_door = checkout.outbound["shop/payments:8080"], frontend.outbound["shop/payments:8080"]

        refused = await exchange(door, get("/charges?card=4242"))
        assert refused.startswith(b"HTTP/1.1 403 ")
        assert json.loads(refused.partition(b"\r\n\r\n")[2])["reason"] == "no_policy_for_workload"
        assert application.heads == []

        await allow(mesh, "checkout", "payments", 8080)
        traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        answer = await exchange(door, get("/charges?card=4242", f"traceparent: {traceparent}"))
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.endswith(b"\r\n\r\nok")
        head = application.heads[0].decode().lower()
        assert head.startswith("get /charges?card=4242 http/1.1\r\n")
        by, uri = "by=spiffe://cluster.local/ns/shop/sa/payments", "uri=spiffe://cluster.local/ns/shop/sa/checkout"
        assert f"x-forwarded-client-cert: {by};{uri}\r\n" in head

        denied = await exchange(other_door, get("/charges"))
        body = json.loads(denied.partition(b"\r\n\r\n")[2])
        assert (body["error"], body["reason"]) == ("denied", "no_policy_matched")
        assert f"x-doorward-decision: {body['decision']}".encode() in denied.lower()

        line = (await wait_for(lambda: refusals(payments, "no_policy_matched"), what="the log line"))[0]
        assert line["decision"] == body["decision"]
        assert str(line["source"]).endswith("/sa/frontend")
        assert line["nearest"]["policy"] == "shop/checkout-calls-payments"
        allowed = await wait_for(lambda: refusals(payments, "allowed_by_policy"), what="the log line")
        assert allowed[0]["traceparent"] == traceparent
        assert "card=" not in payments.output.read_text() + payments.log.read_text()

        _, metrics = await http_get(payments.observe, "/metrics")
        assert 'reason="no_policy_matched"' in metrics
        assert 'source="spiffe://cluster.local/ns/shop/sa/frontend"' in metrics
        status, config = await http_get(payments.observe, "/config")
        assert status == 200
        assert "checkout-calls-payments" in config
        assert "PRIVATE KEY" not in config


async def test_a_deny_policy_overrides_an_allow(mesh: LocalMesh) -> None:
    async with serving(answering) as application:
        await mesh.start_sidecar("shop/payments", inbound=[f"127.0.0.1:0=127.0.0.1:{application.port}/http,port=8080"])
        checkout = await mesh.start_sidecar("shop/checkout", outbound=["127.0.0.1:0=shop/payments:8080"])
        await allow(mesh, "checkout", "payments", 8080)
        await apply(
            mesh,
            {
                "apiVersion": "doorward.dev/v1",
                "kind": "DenyPolicy",
                "metadata": {"name": "nobody-administers", "namespace": "shop"},
                "spec": {
                    "to": {"workload": "payments"},
                    "from": [{"workload": "*"}],
                    "http": [{"paths": ["/admin/*"]}],
                },
            },
        )
        door = checkout.outbound["shop/payments:8080"]
        assert (await exchange(door, get("/charges"))).startswith(b"HTTP/1.1 200 ")
        refused = await exchange(door, get("/charges/../admin/users"))
        assert refused.startswith(b"HTTP/1.1 403 ")
        assert b'"denied_by_policy"' in refused
