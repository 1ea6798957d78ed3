"""What the sidecar counts, in one registry of its own; observe.py shows it as /metrics.

Identities are labels, so their number is bounded: after `identities` distinct ones every further one is "other",
and a stranger with many certificates cannot fill the memory (law 21). Children are looked up once per label set and
kept, since prometheus_client's own look-up costs more than the count itself.
"""

from datetime import datetime
from functools import lru_cache
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

OTHER: Final = "other"
SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_PREFIX: Final = "doorward_sidecar"
_PAIR: Final = ("direction", "source", "destination")

# A time stamp beside each counter would double the page.
disable_created_metrics()  # type: ignore[no-untyped-call]  # prometheus_client has left it untyped


class Metrics:
    """Every counter and gauge of one sidecar. `direction` is "inbound" or "outbound"; refused() knows "observe" too."""

    def __init__(self, *, identities: int = 200) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._identities = identities
        self._known: set[str] = set()
        self._opened = self._counter("connections_opened", "Connections accepted.", "direction")
        self._open = self._gauge("connections_open", "Connections open now.", "direction")
        self._closed = self._counter("connections_closed", "Connections ended, by reason.", "direction", "reason")
        self._refused = self._counter("refused", "Calls refused before a policy was asked.", "direction", "reason")
        self._decisions = self._counter("decisions", "Policy decisions, by reason.", *_PAIR, "reason")
        self._failed = self._counter(
            "failed", "HTTP requests that did not come to their end, by reason.", "direction", "reason"
        )
        self._requests = self._counter("requests", "HTTP requests, by class of status.", *_PAIR, "status")
        self._seconds = Histogram(
            f"{_PREFIX}_request_seconds",
            "Time from a request's head to the end of its response.",
            _PAIR,
            buckets=SECONDS,
            registry=self.registry,
        )
        self._bytes = self._counter(
            "bytes", "Payload received from and sent to the one who called.", "direction", "flow"
        )
        self._probes = self._counter("probes", "The kubelet's probes performed, by outcome.", "probe", "outcome")
        self._unexpected = self._counter("unexpected_errors", "Errors that no code foresaw: report them.", "where")
        self._links = self._counter("control_links", "Attempts to reach the control plane, by outcome.", "outcome")
        self._link_up = self._gauge("control_link_up", "1 while the control link stands.")
        self._snapshots = self._counter("snapshots", "Snapshots received, by outcome.", "outcome")
        self._snapshot = self._gauge("snapshot_number", "Number of the snapshot that is enforced.")
        self._certificates = self._counter("certificates", "Attempts to get a certificate, by outcome.", "outcome")
        self._expiry = self._gauge("certificate_expiry_timestamp_seconds", "When the own certificate runs out.")
        self._ready = self._gauge("ready", "1 while /ready says yes.")
        self._lost_lines = self._counter("log_lines_lost", "Access log lines dropped, standard output being slow.")
        self._cache_children()

    def connection_opened(self, direction: str) -> None:
        """A connection was accepted."""
        self._child_opened(direction).inc()
        self._child_open(direction).inc()

    def connection_closed(self, direction: str, reason: str) -> None:
        """A connection that was counted as opened has ended; "" where it ended by itself."""
        self._child_open(direction).dec()
        self._child_closed(direction, reason or "done").inc()

    def refused(self, direction: str, reason: str) -> None:
        """A call or connection was refused before a policy could be asked."""
        self._child_refused(direction, reason).inc()

    def decision(self, direction: str, source: str, destination: str, reason: str) -> None:
        """decide() answered. `source` and `destination` are SPIFFE IDs, or ""."""
        self._child_decision(direction, self._bounded(source), self._bounded(destination), reason).inc()

    def failed(self, direction: str, reason: str) -> None:
        """An HTTP request that nobody forbade did not come to its end (mesh.policy.reasons.FAILURES)."""
        self._child_failed(direction, reason).inc()

    def request(self, direction: str, source: str, destination: str, status_class: str, seconds: float) -> None:
        """One HTTP exchange ended. `status_class` is "2xx" and so on, or "none" where no response was sent."""
        pair = direction, self._bounded(source), self._bounded(destination)
        self._child_request(*pair, status_class).inc()
        self._child_seconds(*pair).observe(seconds)

    def bytes(self, direction: str, sent: int, received: int) -> None:
        """Payload bytes of one connection or exchange: sent to and received from the one who called."""
        self._child_bytes(direction, "sent").inc(sent)
        self._child_bytes(direction, "received").inc(received)

    def unexpected(self, where: str) -> None:
        """A wall caught an exception that nobody foresaw. `where` is a name from our code, never a value."""
        self._unexpected.labels(where).inc()

    def probe(self, name: str, outcome: str) -> None:
        """A probe of that name, one of the settings', was performed."""
        self._probes.labels(name, outcome).inc()

    def control_link(self, outcome: str) -> None:
        """An attempt at the control link ended in "connected" or in the short name of what failed."""
        self._links.labels(outcome).inc()

    def control_link_up(self, up: bool) -> None:
        """Whether the control link stands now."""
        self._link_up.set(up)

    def snapshot(self, outcome: str, number: int | None = None) -> None:
        """A snapshot was "accepted" (its `number` is enforced now) or refused, by short name."""
        self._snapshots.labels(outcome).inc()
        if number is not None:
            self._snapshot.set(number)

    def certificate(self, outcome: str, expires: datetime | None = None) -> None:
        """An attempt at a certificate ended in "issued" (it `expires` then) or in the short name of what failed."""
        self._certificates.labels(outcome).inc()
        if expires is not None:
            self._expiry.set(expires.timestamp())

    def ready(self, ready: bool) -> None:
        """What /ready answers from now on."""
        self._ready.set(ready)

    def log_lines_lost(self, lines: int) -> None:
        """Access log lines were dropped."""
        self._lost_lines.inc(lines)

    def _bounded(self, identity: str) -> str:
        if identity in self._known:
            return identity
        if len(self._known) >= self._identities:
            return OTHER
        self._known.add(identity)
        return identity

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"{_PREFIX}_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"{_PREFIX}_{name}", text, labels, registry=self.registry)

    def _cache_children(self) -> None:
        # Bounded by what the labels can be: reasons are an enumeration and identities are bounded above.
        keep = lru_cache(maxsize=8 * (self._identities + 64))
        self._child_opened = keep(self._opened.labels)
        self._child_open = keep(self._open.labels)
        self._child_closed = keep(self._closed.labels)
        self._child_refused = keep(self._refused.labels)
        self._child_decision = keep(self._decisions.labels)
        self._child_failed = keep(self._failed.labels)
        self._child_request = keep(self._requests.labels)
        self._child_seconds = keep(self._seconds.labels)
        self._child_bytes = keep(self._bytes.labels)


def exposition(metrics: Metrics) -> bytes:
    """Everything that was counted, in the Prometheus text format."""
    return generate_latest(metrics.registry)
