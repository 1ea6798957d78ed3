"""Ready is listeners, certificate and snapshot together; whatever is missing is named."""

from datetime import UTC, datetime, timedelta

import pytest

from sidecar.readiness import Readiness
from sidecar.view import Mesh, View
from tests.support.pki import HOUR, Pki
from tests.support.simulator import WORKLOAD, snapshot

PKI = Pki()


def ready() -> tuple[Mesh, Readiness]:
    mesh = Mesh(WORKLOAD.in_domain(PKI.domain))
    mesh.replace_svid(PKI.svid())
    mesh.replace_view(View.build(snapshot(PKI), PKI.domain))
    readiness = Readiness(mesh)
    readiness.listening, readiness.link_problem = True, ""
    return mesh, readiness


def test_nothing_is_missing_where_all_is_there() -> None:
    _, readiness = ready()
    assert readiness.missing() == ()
    assert readiness.look()


@pytest.mark.parametrize(
    ("part", "value", "reason"),
    [
        ("svid", None, "no certificate yet: it is away"),
        ("view", None, "no policy snapshot yet: it is away"),
        ("now", lambda: datetime.now(UTC) + 2 * HOUR, "ran out"),
    ],
)
def test_each_missing_part_is_named(part: str, value: object, reason: str) -> None:
    mesh, readiness = ready()
    readiness.link_problem = "it is away"
    setattr(mesh, part, value)
    (said,) = readiness.missing()
    assert reason in said


def test_listeners_and_draining_are_named() -> None:
    _, readiness = ready()
    readiness.listening, readiness.draining = False, True
    draining, listeners = readiness.missing()
    assert "draining" in draining
    assert "listeners" in listeners


def test_a_control_plane_that_is_away_is_no_reason() -> None:
    _, readiness = ready()
    readiness.link_problem = "the control plane is away"
    assert readiness.look()


def test_the_certificate_runs_out_at_its_last_moment() -> None:
    mesh, readiness = ready()
    assert mesh.svid is not None
    end = mesh.svid.not_after
    mesh.now = lambda: end - timedelta(microseconds=1)
    assert readiness.look()
    mesh.now = lambda: end
    assert not readiness.look()


def test_each_change_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    _, readiness = ready()
    for _ in range(3):
        readiness.look()
    readiness.draining = True
    for _ in range(3):
        readiness.look()
    assert [record.getMessage() for record in caplog.records] == ["ready", "not ready"]
