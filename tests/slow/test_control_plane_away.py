"""The control plane stays away: past a renewal nobody notices, at expiry traffic fails closed and says why.

When it is back everything comes back by itself where the token file still holds a token that attests.
"""

from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from operator import gt
from pathlib import Path

import trio

from examples.demo.local_mesh import LocalMesh, Sidecar, http_get, open_local_mesh, wait_for
from tests.support.applications import answering, refusals, serving
from tests.support.load import Load, loading
from tests.support.policies import allow
from tests.support.processes import logged

OWN, THEIRS = "own_certificate_expired", "certificate_expired"
SAID = {(502, THEIRS), (503, OWN)}
CUT_OFF = (502, "upstream_reset")
CALLERS = 4
PATIENCE = 60.0
BRIEF = ("--certificate-lifetime", "16s")  # for nearly half of it a disk may stand still before a renewal is too late
APART = 2.0  # seconds between both certificates: long enough that calls come while only one of them has ended


async def test_traffic_goes_on_until_expiry_then_fails_closed_with_a_reason_and_recovers(short_directory: Path) -> None:
    async with AsyncExitStack() as stack:
        application = await stack.enter_async_context(serving(answering))
        mesh = await stack.enter_async_context(open_local_mesh(short_directory))
        await mesh.start_control_plane(*BRIEF)
        inbound = [f"127.0.0.1:0=127.0.0.1:{application.port}/http,port=8080"]
        payments = await mesh.start_sidecar("shop/payments", "--backoff-max", "1s", inbound=inbound)
        doors = ["127.0.0.1:0=shop/payments:8080"]
        await trio.sleep(APART)
        checkout = await mesh.start_sidecar("shop/checkout", "--backoff-max", "1s", outbound=doors)
        await allow(mesh, "checkout", "payments", 8080)
        for workload in ("shop/payments", "shop/checkout"):
            await mesh.token(workload)  # into the same file: what it held is used up
        door = checkout.outbound["shop/payments:8080"]
        load = await stack.enter_async_context(
            loading(door, keep_alive=CALLERS // 2, fresh=CALLERS // 2, method="POST")
        )
        await load.goes_on()
        await _end_a_control_plane_between_two_renewals(mesh, payments, checkout)

        await load.until(lambda: load.answers[-1].reason == OWN, PATIENCE)
        _assert_closed_for_good_and_with_a_reason(load)
        await _assert_an_operator_sees_it(checkout, payments)

        reached = len(application.heads)
        await load.goes_on()
        assert len(application.heads) == reached
        await mesh.start_control_plane(*BRIEF)
        await load.until(lambda: load.answers[-1].status == 200, PATIENCE)
        for sidecar in (payments, checkout):
            await wait_for(lambda: len(logged(sidecar, "ready")) == 2, what="readiness in the log")  # noqa: B023 # waited for


async def _end_a_control_plane_between_two_renewals(mesh: LocalMesh, payments: Sidecar, checkout: Sidecar) -> None:
    """Payments' certificate is then the older one: for a while only it has expired."""

    def count(event: str) -> list[int]:
        return [len(logged(each, event)) for each in (payments, checkout)]

    def payments_is_older() -> bool:
        payments_expires, checkout_expires = (
            datetime.fromisoformat(logged(each, "certificate")[-1]["expires"]) for each in (payments, checkout)
        )
        return checkout_expires - payments_expires >= timedelta(seconds=APART)

    while True:
        _, before = count("certificate")
        await wait_for(lambda: count("certificate")[1] > before, what="a renewal")  # noqa: B023 # waited for
        if payments_is_older():
            failed = count("control link failed")
            assert mesh.control_plane is not None
            await mesh.control_plane.stop(9)
            await wait_for(lambda: all(map(gt, count("control link failed"), failed)), what="both to notice")  # noqa: B023 - awaited within the round
            if payments_is_older():  # it was not renewed in the last moment
                return
            await mesh.start_control_plane(*BRIEF)


def _assert_closed_for_good_and_with_a_reason(load: Load) -> None:
    """Whatever begins after the first answer with one of the two reasons gets one too, and both were given.

    What payments took on in the very moment in which its certificate ended may be cut off: one call of each caller.
    """
    closed = next(each.at for each in load.failed if (each.status, each.reason) in SAID)
    assert {(each.status, each.reason) for each in load.begun_since(closed)} <= SAID, load.failed
    cut_off = [each for each in load.failed if (each.status, each.reason) not in SAID]
    assert {(each.status, each.reason) for each in cut_off} <= {CUT_OFF}, load.failed
    assert len(cut_off) <= CALLERS
    assert {each.reason for each in load.failed} >= {THEIRS, OWN}


async def _assert_an_operator_sees_it(checkout: Sidecar, payments: Sidecar) -> None:
    """In both logs, both metrics, and at /ready, which says what to look at."""
    theirs = await wait_for(lambda: refusals(checkout, THEIRS), what="the log line")
    assert "ago by the clock here: was it renewed, and do both clocks agree?" in str(theirs[0]["detail"])
    for sidecar, direction, reasons in ((checkout, "outbound", (THEIRS, OWN)), (payments, "inbound", (OWN,))):
        _, metrics = await http_get(sidecar.observe, "/metrics")
        for reason in reasons:
            assert f'doorward_sidecar_refused_total{{direction="{direction}",reason="{reason}"}}' in metrics
            assert await wait_for(lambda: refusals(sidecar, reason), what="the log line")  # noqa: B023 # waited for
        status, said = await http_get(sidecar.observe, "/ready")
        assert status == 503
        assert "the certificate ran out at" in said
        assert "cannot reach the control plane" in said
