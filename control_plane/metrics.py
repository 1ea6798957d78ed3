"""What the control plane counts, on a registry of its own. Labels are names from our code, never what a peer sent."""

from collections.abc import Sequence
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
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
_PREFIX: Final = "doorward_control_plane"
_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

# A time stamp beside each counter would double the page.
disable_created_metrics()  # type: ignore[no-untyped-call]  # prometheus_client has left it untyped


class Metrics:
    """Every metric of one control plane; `text()` is what /metrics answers."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.links = self._gauge("links", "Sidecars connected with a certificate.")
        self.unauthenticated_links = self._gauge(
            "unauthenticated_links", "Connections that have shown no certificate yet."
        )
        self.links_refused = self._counter(
            "links_refused", "Connections that never became a link, by reason.", "reason"
        )
        self.links_ended = self._counter("links_ended", "Links that ended, by reason.", "reason")
        self.messages = self._counter("messages", "Messages received, by type.", "type")
        self.certificates = self._counter("certificates_issued", "Certificates issued, by attestation.", "method")
        self.requests_refused = self._counter(
            "requests_refused", "Requests of sidecars answered with a Nack, by message and code.", "about", "code"
        )
        self.snapshots = self._counter("snapshots_sent", "Snapshots sent to sidecars.")
        self.snapshot_refusals = self._counter("snapshots_refused", "Snapshots that a sidecar refused.")
        self.enforced_after = self._histogram(
            "enforced_after_seconds", "From sending a snapshot to its acknowledgement.", _SECONDS
        )
        self.number = self._gauge("store_number", "The store number that is being pushed.")
        self.policies = self._gauge("policies", "Policy documents in force.")
        self.endpoints = self._gauge(
            "endpoints", "Endpoints that sidecars can be told of, registered ones and the cluster's."
        )
        self.platform_endpoints = self._gauge("platform_endpoints", "Endpoints that the cluster's pods are.")
        self.platform_services = self._gauge(
            "platform_services", "Ports of the cluster's services that are in the mesh, once for each IP version."
        )
        self.platform_over = self._gauge(
            "platform_over_limit", "Namespaces that have more ports or backends than there is room for in snapshots."
        )
        self.issuer_expiry = self._gauge("issuer_expiry_timestamp_seconds", "NotAfter of the issuing certificate.")
        self.root_expiry = self._gauge("root_expiry_timestamp_seconds", "Earliest NotAfter of the own roots.")
        self.operators_refused = self._counter(
            "operators_refused",
            "Connections and requests to the operators' address that were refused, by reason.",
            "reason",
        )
        self.admissions = self._counter(
            "admissions",
            "Pods that API servers asked the injector about, by outcome: injected, unchanged, skipped or refused.",
            "outcome",
        )
        self.admission_seconds = self._histogram(
            "admission_seconds", "From the last byte of an AdmissionReview to its answer.", (0.001, 0.0025, *_SECONDS)
        )
        self.injector_refused = self._counter(
            "injector_refused",
            "Connections and requests to the injector's address that were no AdmissionReview, by reason.",
            "reason",
        )
        self.serving_certificate_expiry = self._gauge(
            "serving_certificate_expiry_timestamp_seconds",
            "NotAfter of the injector's serving certificate; 0 where there is no injector.",
        )
        self.gave_way = self._counter(
            "connections_gave_way", "Connections for HTTP that gave way to newer ones, by place.", "place"
        )
        self.kubernetes_away = self._gauge("kubernetes_away", "1 while the Kubernetes API server does not answer.")
        self.kubernetes_requests_failed = self._counter(
            "kubernetes_requests_failed",
            "Requests to the Kubernetes API without a good answer, by HTTP status, or unreachable, or strange.",
            "reason",
        )
        self.kubernetes_objects = self._gauge(
            "kubernetes_objects", "Objects kept from watching the cluster, by kind.", "kind"
        )
        self.kubernetes_lists = self._counter(
            "kubernetes_lists",
            "Complete lists read before watching, by kind: many of them mean that watches cannot be resumed.",
            "kind",
        )
        self.policy_objects = self._gauge(
            "policy_objects",
            "Policies as cluster objects, by what became of them: accepted, faults, owned_by_cli or pending.",
            "verdict",
        )
        self.store_pruned = self._gauge(
            "store_pruned",
            "What the store has had no room for so far, by ledger: policy_versions or audit_entries.",
            "ledger",
        )
        self.failures = self._counter("failures", "Errors that no code foresaw, by place; see the log.", "place")

    def text(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"{_PREFIX}_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"{_PREFIX}_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: Sequence[float]) -> Histogram:
        return Histogram(f"{_PREFIX}_{name}", text, buckets=buckets, registry=self.registry)
