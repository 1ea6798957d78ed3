"""One line of JSON per event, whatever is in it."""

import io
import json
import logging
import time
from collections.abc import Iterator

import pytest

from control_plane.log import LINES_PER_SECOND, Sparing, fields, set_up


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What the process logs, with pytest's own handlers put back afterwards."""
    root, stream = logging.getLogger(), io.StringIO()
    handlers, level = root.handlers[:], root.level
    set_up(stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_line_says_when_what_and_its_fields(lines: io.StringIO) -> None:
    logging.getLogger("doorward.push").warning("refused %d", 7, extra=fields(reason="banned", port=8443))
    line = json.loads(lines.getvalue())
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "warning",
        "logger": "doorward.push",
        "event": "refused 7",
        "reason": "banned",
        "port": 8443,
    }


def test_no_value_can_start_a_line_of_its_own(lines: io.StringIO) -> None:
    logging.getLogger("doorward").info("x\n{}", extra=fields(identity='"\n{"level": "fake"}\r\x1b[2J\u2028'))
    assert len(lines.getvalue().splitlines()) == 1
    assert json.loads(lines.getvalue())["identity"].startswith('"\n{')


def test_an_exception_is_part_of_its_line(lines: io.StringIO) -> None:
    try:
        raise ValueError("what went wrong")
    except ValueError:
        logging.getLogger("doorward").exception("a connection failed")
    assert len(lines.getvalue().splitlines()) == 1
    assert "ValueError: what went wrong" in json.loads(lines.getvalue())["error"]


def test_libraries_speak_in_the_same_form_and_only_of_trouble(lines: io.StringIO) -> None:
    logging.getLogger("alembic.runtime").info("a step")
    logging.getLogger("alembic.runtime").warning("trouble")
    assert [json.loads(line)["event"] for line in lines.getvalue().splitlines()] == ["trouble"]


def test_strangers_cannot_fill_the_log(lines: io.StringIO) -> None:
    log = logging.getLogger("doorward.push")
    begin = int(time.time())
    for number in range(500):
        log.warning("refused a connection", extra=fields(number=number))
    log.warning("something else")
    log.error("an error")
    seconds = int(time.time()) - begin + 1
    events = [json.loads(line)["event"] for line in lines.getvalue().splitlines()]
    assert LINES_PER_SECOND <= events.count("refused a connection") <= seconds * LINES_PER_SECOND
    assert events[-2:] == ["something else", "an error"]


def test_what_was_left_out_is_said_by_the_next_line() -> None:
    sparing, record = Sparing(per_second=2), logging.LogRecord("x", logging.WARNING, "", 0, "event", (), None)
    for second, written in ((10.0, True), (10.1, True), (10.2, False), (10.3, False), (11.0, True)):
        record.created = second
        assert sparing.filter(record) is written
    assert record.fields == {"left_out": 2}
