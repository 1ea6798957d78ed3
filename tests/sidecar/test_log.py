"""The process log: one JSON line per event, bounded, and never in the way."""

import json
import logging
import os
from collections.abc import Iterator
from typing import Any

import pytest

from sidecar import log


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    root = logging.getLogger()
    before = root.level, root.handlers[:]
    reading, writing = os.pipe()
    log.configure("info", fd=writing)
    yield reading, writing
    root.level, root.handlers[:] = before
    os.close(reading)
    os.close(writing)


def lines(reading: int) -> list[dict[str, Any]]:
    os.set_blocking(reading, False)
    try:
        return [json.loads(line) for line in os.read(reading, 1 << 20).splitlines()]
    except BlockingIOError:
        return []


def test_an_event_is_one_line_with_its_fields(pipe: tuple[int, int]) -> None:
    log.warning("control link failed", code="silent", retry_in=1.5, reasons=("a", "b"))
    (line,) = lines(pipe[0])
    assert line.pop("time")
    assert line == {
        "level": "warning",
        "event": "control link failed",
        "code": "silent",
        "retry_in": 1.5,
        "reasons": ["a", "b"],
    }


def test_less_than_the_level_is_left_out(pipe: tuple[int, int]) -> None:
    log.debug("detail")
    log.info("news")
    assert [line["event"] for line in lines(pipe[0])] == ["news"]


def test_what_a_peer_said_cannot_forge_a_line(pipe: tuple[int, int]) -> None:
    log.info("refused", detail='x"}\n{"event":"ready"}')
    (line,) = lines(pipe[0])
    assert line["event"] == "refused"


def test_an_exception_brings_the_end_of_its_traceback(pipe: tuple[int, int]) -> None:
    try:
        raise ValueError("the cause")
    except ValueError as error:
        log.error("failed", exception=error)
    (line,) = lines(pipe[0])
    assert "ValueError: the cause" in line["traceback"]


def test_other_packages_log_in_the_same_form(pipe: tuple[int, int]) -> None:
    logging.getLogger("some.library").warning("%d things", 3)
    (line,) = lines(pipe[0])
    assert line["event"] == "3 things"


def test_lines_stay_short_enough_for_one_write(pipe: tuple[int, int]) -> None:
    log.info("x" * 100_000, **{f"field{number}": "é" * 5000 for number in range(50)})
    (line,) = lines(pipe[0])
    assert len(json.dumps(line)) <= log.MAX_LINE


def test_a_reader_that_stopped_is_not_waited_for(pipe: tuple[int, int]) -> None:
    for _ in range(5000):
        log.info("x" * 900)
    assert 50 < len(lines(pipe[0])) < 5000
