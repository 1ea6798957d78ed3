"""What is counted shows in the Prometheus text, and strangers cannot make it grow."""

from datetime import UTC, datetime
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from sidecar.metrics import OTHER, Metrics, exposition


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"doorward_sidecar_{name}", labels)


def test_connections_are_counted_from_their_beginning_to_their_end() -> None:
    metrics = Metrics()
    metrics.connection_opened("inbound")
    metrics.connection_opened("inbound")
    metrics.connection_closed("inbound", "idle_timeout")
    metrics.connection_closed("inbound", "")
    assert value(metrics, "connections_opened_total", direction="inbound") == 2
    assert value(metrics, "connections_open", direction="inbound") == 0
    assert value(metrics, "connections_closed_total", direction="inbound", reason="idle_timeout") == 1
    assert value(metrics, "connections_closed_total", direction="inbound", reason="done") == 1


def test_requests_decisions_bytes_and_refusals_carry_their_labels() -> None:
    metrics = Metrics()
    pair = {"direction": "inbound", "source": "spiffe://td/a", "destination": "spiffe://td/b"}
    metrics.request(*pair.values(), "2xx", 0.02)
    metrics.decision(*pair.values(), "allowed_by_policy")
    metrics.bytes("outbound", 10, 3)
    metrics.refused("inbound", "not_tls")
    assert value(metrics, "requests_total", **pair, status="2xx") == 1
    assert value(metrics, "request_seconds_sum", **pair) == 0.02
    assert value(metrics, "request_seconds_bucket", **pair, le="0.025") == 1
    assert value(metrics, "decisions_total", **pair, reason="allowed_by_policy") == 1
    assert value(metrics, "bytes_total", direction="outbound", flow="sent") == 10
    assert value(metrics, "bytes_total", direction="outbound", flow="received") == 3
    assert value(metrics, "refused_total", direction="inbound", reason="not_tls") == 1


def test_certificate_snapshot_and_link_are_gauges() -> None:
    metrics = Metrics()
    metrics.certificate("issued", datetime(2026, 11, 5, tzinfo=UTC))
    metrics.certificate("token_used")
    metrics.snapshot("accepted", 41)
    metrics.snapshot("stale")
    metrics.control_link_up(True)
    metrics.ready(True)
    assert value(metrics, "certificate_expiry_timestamp_seconds") == 1793836800
    assert value(metrics, "snapshot_number") == 41
    assert value(metrics, "snapshots_total", outcome="stale") == 1
    assert value(metrics, "control_link_up") == 1
    assert value(metrics, "ready") == 1


@given(st.lists(st.text(max_size=8), max_size=60))
def test_any_number_of_identities_makes_a_bounded_number_of_labels(identities: list[str]) -> None:
    metrics = Metrics(identities=5)
    for identity in identities:
        metrics.decision("inbound", identity, "", "denied_by_policy")
    sources = {
        sample.labels["source"]
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == "doorward_sidecar_decisions_total"
    }
    assert len(sources) <= 6
    counted = sum(
        sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == "doorward_sidecar_decisions_total"
    )
    assert counted == len(identities)


def test_the_identity_after_the_last_place_is_other() -> None:
    metrics = Metrics(identities=2)
    for identity in ("a", "b", "c", "a"):
        metrics.decision("inbound", identity, "a", "x")
    labels = {"direction": "inbound", "destination": "a", "reason": "x"}
    assert value(metrics, "decisions_total", source="a", **labels) == 2
    assert value(metrics, "decisions_total", source=OTHER, **labels) == 1
    assert value(metrics, "decisions_total", source="c", **labels) is None


def test_the_exposition_is_prometheus_text() -> None:
    metrics = Metrics()
    metrics.refused("inbound", "not_tls")
    text = exposition(metrics).decode()
    assert 'doorward_sidecar_refused_total{direction="inbound",reason="not_tls"} 1.0' in text.splitlines()


def test_every_metric_is_in_the_documentation() -> None:
    docs = (Path(__file__).parents[2] / "docs/configuration/sidecar.md").read_text(encoding="utf-8")
    for family in Metrics().registry.collect():
        name = family.name.removeprefix("doorward_sidecar_") + ("_total" if family.type == "counter" else "")
        assert f"| `{name}` |" in docs
