"""One JSON line per record, nothing forged or secret in it, and a slow reader loses lines, never traffic."""

import json
import os
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from mesh.policy import AuditFinding, Decision, NearMiss, Reason
from sidecar.access_log import MAX_DETAIL, MAX_PATH, AccessLog, Record
from sidecar.metrics import Metrics
from tests.support.patience import PATIENCE

Pipe = tuple[FileIO, FileIO]


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipe]:
    """Its two ends, the one to read from first; the last lines have all the time that they need."""
    monkeypatch.setattr("sidecar.access_log.FLUSH_SECONDS", PATIENCE)
    reading, writing = os.pipe()
    with FileIO(reading) as out, FileIO(writing, "w") as into:
        yield out, into


def said(record: Record) -> dict[str, Any]:
    line = record.line()
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    parsed: dict[str, Any] = json.loads(line)
    return parsed


def test_a_record_says_who_called_whom_and_why_it_was_decided_so() -> None:
    record = Record.start("inbound", "http", instance="payments-1")
    record.source, record.destination = "spiffe://td/a", "spiffe://td/b"
    record.method, record.path, record.status, record.port = "POST", "/charges", 403, 8080
    near = NearMiss("shop/a", "spec.http[0].methods", "GET", "POST")
    audit = (AuditFinding("allow", "shop/z", 0),)
    record.decided(Decision(False, Reason.NO_POLICY_MATCHED, nearest=near, audit=audit), 7)
    line = said(record)
    assert line["decision"].startswith("payments-1-")
    assert (line["allowed"], line["reason"], line["snapshot"]) == (False, "no_policy_matched", 7)
    assert line["nearest"] == {"policy": "shop/a", "clause": "spec.http[0].methods", "wanted": "GET", "got": "POST"}
    assert line["audit"] == [{"would": "allow", "policy": "shop/z", "rule": 0}]
    assert (line["source"], line["destination"], line["port"]) == ("spiffe://td/a", "spiffe://td/b", 8080)
    assert (line["method"], line["path"], line["status"]) == ("POST", "/charges", 403)
    assert line["duration_ms"] >= 0
    assert line["time"].endswith("+00:00")


def test_what_more_there_is_to_say_is_bounded() -> None:
    record = Record.start("inbound", "tcp", instance="x")
    assert "detail" not in said(record)
    record.detail = "the certificate expired, 12 s ago by the clock here" + "." * MAX_DETAIL
    assert said(record)["detail"] == record.detail[:MAX_DETAIL]


def test_the_first_rule_and_snapshot_zero_are_said() -> None:
    record = Record.start("inbound", "tcp", instance="x")
    record.decided(Decision(True, Reason.ALLOWED_BY_POLICY, policy="shop/a", rule=0), 0)
    assert (said(record)["rule"], said(record)["snapshot"]) == (0, 0)


def test_decision_ids_are_the_instance_and_something_random() -> None:
    ids = {Record.start("inbound", "tcp", instance="x").decision for _ in range(1000)}
    assert len(ids) == 1000
    assert all(len(each) == len("x-") + 16 for each in ids)


@given(st.text(max_size=60), st.text(max_size=60))
def test_whatever_a_caller_says_stays_within_its_line(method: str, path: str) -> None:
    record = Record.start("inbound", "http", instance="x")
    record.method, record.path = method, path
    line = said(record)
    assert "?" not in line.get("path", "")
    assert set(line) <= {"time", "direction", "protocol", "decision", "allowed", "reason", "bytes_in", "bytes_out",
                         "duration_ms", "method", "path"}  # fmt: skip


def test_query_strings_and_endless_paths_do_not_get_in() -> None:
    record = Record.start("inbound", "http", instance="x")
    record.path = "/a?card=4111"
    assert said(record)["path"] == "/a"
    record.path = "/" + "x" * 100_000
    assert len(record.line()) < MAX_PATH + 500


@pytest.mark.parametrize(
    ("given_text", "kept"),
    [
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", True),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\n", False),
        ("Bearer eyJ", False),
    ],
)
def test_only_a_well_formed_traceparent_is_logged(given_text: str, kept: bool) -> None:
    record = Record.start("inbound", "http", instance="x")
    record.traceparent = given_text
    assert ("traceparent" in said(record)) is kept


def log_to(fd: int, metrics: Metrics, which: str = "all", lines: int = 100) -> AccessLog:
    return AccessLog(instance="x", metrics=metrics, which=which, lines=lines, fd=fd)


async def test_lines_arrive_in_order_and_the_last_ones_too(pipe: Pipe) -> None:
    log = log_to(pipe[1].fileno(), Metrics())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(log.run)
        for port in range(1, 51):
            record = log.start("inbound", "tcp")
            record.port = port
            log.write(record)
            if port == 25:
                await trio.sleep(0.1)
        nursery.cancel_scope.cancel()
    pipe[1].close()
    lines = pipe[0].read(65536).splitlines()
    assert [json.loads(line)["port"] for line in lines] == list(range(1, 51))


@pytest.mark.parametrize(("which", "count"), [("all", 2), ("denied", 1), ("off", 0)])
async def test_what_is_logged_can_be_chosen(pipe: Pipe, which: str, count: int) -> None:
    log = log_to(pipe[1].fileno(), Metrics(), which)
    for allowed in (True, False):
        record = log.start("inbound", "tcp")
        record.allowed = allowed
        log.write(record)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(log.run)
        nursery.cancel_scope.cancel()
    pipe[1].close()
    assert pipe[0].read(65536).count(b"\n") == count


async def test_a_full_queue_drops_lines_and_counts_them() -> None:
    metrics = Metrics()
    log = log_to(1, metrics, lines=3)
    for _ in range(10):
        log.write(log.start("inbound", "tcp"))
    assert metrics.registry.get_sample_value("doorward_sidecar_log_lines_lost_total") == 7


async def test_a_reader_that_stopped_does_not_keep_the_program_from_ending(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidecar.access_log.FLUSH_SECONDS", 0.1)
    log = log_to(pipe[1].fileno(), Metrics(), lines=10_000)
    for _ in range(2000):  # more than a pipe holds
        log.write(log.start("inbound", "tcp"))
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(log.run)
            await trio.sleep(0.1)
            nursery.cancel_scope.cancel()
        pipe[0].close()  # lets the threads that were left behind end, before their descriptor is another file's
        while trio.to_thread.current_default_thread_limiter().borrowed_tokens:
            await trio.sleep(0.005)


async def test_a_broken_pipe_loses_lines_and_nothing_else(pipe: Pipe) -> None:
    metrics = Metrics()
    log = log_to(pipe[1].fileno(), metrics)
    pipe[0].close()
    log.write(log.start("inbound", "tcp"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(log.run)
        nursery.cancel_scope.cancel()
    assert metrics.registry.get_sample_value("doorward_sidecar_log_lines_lost_total") == 1


def test_every_key_is_in_the_documentation() -> None:
    docs = (Path(__file__).parents[2] / "docs/configuration/sidecar.md").read_text(encoding="utf-8")
    record = Record.start("inbound", "http", instance="x")
    for name in ("source", "destination", "peer_address", "method", "path", "policy", "tls_group"):
        setattr(record, name, "x")
    record.port, record.status, record.rule, record.snapshot = 1, 200, 0, 1
    record.nearest, record.audit = NearMiss("a", "b", "c", "d"), (AuditFinding("allow", None, None),)
    record.traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    line = said(record)
    assert len(line) == 23
    for key in line:
        assert f"`{key}`" in docs, key
