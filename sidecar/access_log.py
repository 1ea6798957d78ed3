"""The access log: one JSON line on standard output per request or connection, and the decision ids in it.

A connection's task fills a Record and hands it to AccessLog.write(), which never waits: lines gather in a bounded
queue and one task writes them in batches from a thread, since standard output may be a pipe that nobody reads. A
full queue loses lines and counts them; it never holds traffic up.

Law 20: no query string, no header value (but a well-formed traceparent), no body ever gets here, and JSON escapes
the rest, so a caller cannot forge a line.
"""

import json
import os
import re
import secrets
import threading
import time
from collections import deque
from datetime import UTC, datetime
from typing import Any, Final

import trio
from attrs import asdict, define

from mesh.policy.decision import AuditFinding, Decision, NearMiss
from sidecar.metrics import Metrics

MAX_PATH: Final = 1024  # characters of a path that are logged
MAX_METHOD: Final = 32
MAX_DETAIL: Final = 300
BATCH_SECONDS: Final = 0.02  # lines gather this long before one write: a thread hop costs as much as ten lines
FLUSH_SECONDS: Final = 2.0  # for the last lines at the end, where nobody may read any more

_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode  # json.dumps would build one per line
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII)


@define
class Record:
    """What is known about one request or connection; its task fills it in as it learns more, then writes it once.

    `bytes_in` came from the one who called, `bytes_out` went to it. `allowed` stays False for what was refused
    before a policy was asked. `status` is None for TCP. `policy` is "" where a default decided. `original` is the
    address that a redirected application dialled. `detail` says more about a refusal or a failure, in words of ours.
    """

    direction: str  # "inbound" or "outbound"
    protocol: str  # "http" or "tcp"
    decision: str  # the id that the caller gets too
    time: datetime
    started: float  # time.perf_counter()
    source: str = ""
    destination: str = ""
    port: int = 0
    peer_address: str = ""
    original: str = ""
    method: str = ""
    path: str = ""
    status: int | None = None
    allowed: bool = False
    reason: str = ""
    detail: str = ""
    policy: str = ""
    rule: int | None = None
    nearest: NearMiss | None = None
    audit: tuple[AuditFinding, ...] = ()
    snapshot: int | None = None
    bytes_in: int = 0
    bytes_out: int = 0
    duration_ms: float | None = None  # None: until it is written
    traceparent: str = ""
    tls_group: str = ""

    @classmethod
    def start(cls, direction: str, protocol: str, *, instance: str) -> "Record":
        """A new record that starts now, with a decision id of its own: `<instance>-<64 random bits in hex>`."""
        return cls(direction, protocol, f"{instance}-{secrets.token_hex(8)}", datetime.now(UTC), time.perf_counter())

    def decided(self, decision: Decision, snapshot: int | None) -> None:
        """Take over what decide() answered under that snapshot number."""
        self.allowed = decision.allowed
        self.reason = decision.reason
        self.policy = decision.policy or ""
        self.rule = decision.rule
        self.nearest = decision.nearest
        self.audit = decision.audit
        self.snapshot = snapshot

    @property
    def seconds(self) -> float:
        """How long this has taken up to now."""
        return time.perf_counter() - self.started

    def line(self) -> bytes:
        """The record as one line of JSON, newline included. Keys that say nothing are left out."""
        said: dict[str, Any] = {
            "time": self.time.isoformat(timespec="milliseconds"),
            "direction": self.direction,
            "protocol": self.protocol,
            "decision": self.decision,
            "allowed": self.allowed,
            "reason": self.reason,
        }
        for key in _PLAIN_KEYS:
            if value := getattr(self, key):
                said[key] = value
        said |= self._bounded_keys()
        said["bytes_in"], said["bytes_out"] = self.bytes_in, self.bytes_out
        duration = self.seconds * 1000 if self.duration_ms is None else self.duration_ms
        said["duration_ms"] = round(duration, 3)
        return _encode(said).encode() + b"\n"

    def _bounded_keys(self) -> dict[str, Any]:
        said: dict[str, Any] = {}
        if self.method:
            said["method"] = self.method[:MAX_METHOD]
        if self.path:
            said["path"] = self.path.partition("?")[0][:MAX_PATH]
        if self.detail:
            said["detail"] = self.detail[:MAX_DETAIL]
        if self.rule is not None:
            said["rule"] = self.rule
        if self.snapshot is not None:
            said["snapshot"] = self.snapshot
        if self.nearest is not None:
            said["nearest"] = asdict(self.nearest)
        if self.audit:
            said["audit"] = [asdict(finding) for finding in self.audit]
        if _TRACEPARENT.fullmatch(self.traceparent):
            said["traceparent"] = self.traceparent
        return said


_PLAIN_KEYS: Final = ("source", "destination", "port", "peer_address", "original", "status", "policy", "tls_group")


class AccessLog:
    """Takes records from every task, and writes them from one.

    `which` is "all", "denied" (only what was not allowed) or "off". `lines` bounds what waits. `fd` is where the
    lines go: standard output.
    """

    def __init__(
        self, *, instance: str, metrics: Metrics, which: str = "all", lines: int = 10_000, fd: int = 1
    ) -> None:
        self._instance = instance
        self._metrics = metrics
        self._which = which
        self._bound = lines
        self._fd = fd
        self._waiting: deque[bytes] = deque()
        self._some = trio.Event()
        self._order = threading.Lock()  # a thread left behind by a cancellation and the last flush take turns

    def start(self, direction: str, protocol: str) -> Record:
        """A new record of this process; it carries the decision id that the caller is told."""
        return Record.start(direction, protocol, instance=self._instance)

    def write(self, record: Record) -> None:
        """Queue the record's line; never waits. Where the queue is full the line is lost and counted."""
        if self._which == "off" or (self._which == "denied" and record.allowed):
            return
        if len(self._waiting) >= self._bound:
            self._metrics.log_lines_lost(1)
            return
        self._waiting.append(record.line())
        self._some.set()

    async def run(self) -> None:
        """Write what is queued until cancelled, then what is left for at most FLUSH_SECONDS."""
        try:
            while True:
                await self._some.wait()
                self._some = trio.Event()
                await trio.sleep(BATCH_SECONDS)
                await self._flush()
        finally:
            with trio.move_on_after(FLUSH_SECONDS, shield=True):
                await self._flush()

    async def _flush(self) -> None:
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), 512))]
            # A reader that stopped must not keep the program from ending: the thread is then left behind.
            written = await trio.to_thread.run_sync(self._write_all, b"".join(batch), abandon_on_cancel=True)
            if not written:
                self._metrics.log_lines_lost(len(batch))

    def _write_all(self, data: bytes) -> bool:
        view = memoryview(data)
        with self._order:
            try:
                while view:
                    view = view[os.write(self._fd, view) :]
            except OSError:
                return False  # standard output is gone: the traffic goes on without its log
        return True
