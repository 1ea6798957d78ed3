"""Clocks that differ: within the allowance nobody notices; beyond it the one who refuses says by how much they differ.

Payments' clock is moved, checkout's and the control plane's are right; each calls the other, so both sides of a
handshake have the wrong clock in turn.
"""

import json
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from examples.demo.local_mesh import LocalMesh, Sidecar, http_get, open_local_mesh, wait_for
from tests.support.applications import answering, refusals, serving
from tests.support.clocks import WrongClock, wrong_clock
from tests.support.policies import allow_policy, apply

pytestmark = pytest.mark.peers("faketime")

MINUTE = 60
ALLOWED = (-100, 100, 5 * MINUTE)  # two minutes behind whoever issues; ahead while certificates have time left
BEHIND, AHEAD = -5 * MINUTE, 20 * MINUTE  # ahead: after the end of checkout's certificate, before that of its own
FRESH = ("--pool-idle-timeout", "1ms")  # every call shakes hands: an open connection is not verified again


async def test_peers_whose_clocks_differ_beyond_the_allowance_are_told_to_compare_them(short_directory: Path) -> None:
    async with AsyncExitStack() as stack:
        clock = wrong_clock(short_directory)
        mesh = await stack.enter_async_context(open_local_mesh(short_directory))
        application = await stack.enter_async_context(serving(answering))
        checkout, payments = await _two_that_call_each_other(mesh, clock, application.port)
        there, back = checkout.outbound["shop/payments:8080"], payments.outbound["shop/checkout:8080"]
        for seconds in (0, *ALLOWED):
            clock.move(seconds)
            assert await _call(there) == (200, ""), seconds
            assert await _call(back) == (200, ""), seconds
        for seconds, reason in ((BEHIND, "certificate_not_yet_valid"), (AHEAD, "certificate_expired")):
            clock.move(seconds)
            assert await _call(back) == (502, reason)  # as a client it says so to its application
            assert await _call(there) == (502, "upstream_reset")  # as a server it has nobody to tell but its log
            for direction in ("outbound", "inbound"):
                await _assert_an_operator_sees_it(payments, direction, reason)
        clock.move(0)
        assert (await _call(there), await _call(back)) == ((200, ""), (200, ""))


async def test_a_sidecar_whose_clock_differs_from_the_control_planes_says_so_and_needs_no_restart(
    mesh: LocalMesh, short_directory: Path
) -> None:
    for name, seconds in (
        ("behind", BEHIND),
        ("ahead", 120 * MINUTE),  # a certificate lives one hour: it is over when it comes
        ("far-ahead", 48 * 60 * MINUTE),  # the control plane's own lives a day
    ):
        clock = wrong_clock(short_directory, seconds)
        sidecar = await mesh.start_sidecar(f"shop/{name}", "--backoff-max", "1s", place=clock.place, ready=False)
        await wait_for(lambda: "by the clock here" in sidecar.log.read_text(), what="the log line")  # noqa: B023 # waited for
        status, ready = await http_get(sidecar.observe, "/ready")
        assert status == 503
        assert "both clocks" in ready
        clock.move(0)
        await wait_for(lambda: '"event":"ready"' in sidecar.log.read_text(), what="readiness")  # noqa: B023 # waited for


async def _two_that_call_each_other(mesh: LocalMesh, clock: WrongClock, port: int) -> tuple[Sidecar, Sidecar]:
    inbound = [f"127.0.0.1:0=127.0.0.1:{port}/http,port=8080"]
    await mesh.start_control_plane("--certificate-lifetime", "10m")
    doors = ["127.0.0.1:0=shop/payments:8080"]
    checkout = await mesh.start_sidecar("shop/checkout", *FRESH, inbound=inbound, outbound=doors)
    assert mesh.control_plane is not None
    await mesh.control_plane.stop()
    await mesh.start_control_plane("--certificate-lifetime", "1h")
    doors = ["127.0.0.1:0=shop/checkout:8080"]
    payments = await mesh.start_sidecar("shop/payments", *FRESH, inbound=inbound, outbound=doors, place=clock.place)
    await wait_for(lambda: checkout.log.read_text().count("control link stands") == 2, what="the link")
    policies = [allow_policy("checkout", "payments", 8080), allow_policy("payments", "checkout", 8080)]
    await apply(mesh, *policies)
    return checkout, payments


async def _call(door: str) -> tuple[int, str]:
    status, body = await http_get(door, "/")
    return status, "" if status == 200 else json.loads(body)["reason"]


async def _assert_an_operator_sees_it(payments: Sidecar, direction: str, reason: str) -> None:
    def lines() -> list[dict[str, object]]:
        return [line for line in refusals(payments, reason) if line["direction"] == direction]

    detail = str((await wait_for(lines, what="the log line"))[0]["detail"])
    assert "both clocks" in detail
    assert "by the clock here" in detail
    _, metrics = await http_get(payments.observe, "/metrics")
    assert f'doorward_sidecar_refused_total{{direction="{direction}",reason="{reason}"}} 1.0' in metrics
