"""What the control plane counts, on a registry of its own. Labels are names from our code, never what a peer sent."""

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

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

# A time stamp beside each counter would double the page.
disable_created_metrics()  # type: ignore[no-untyped-call]  # prometheus_client has left it untyped


class Metrics:
    """Every metric of one control plane; `text()` is what /metrics answers."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        prefix = "doorward_control_plane_"
        self.links = Gauge(prefix + "links", "Sidecars connected with a certificate.", registry=registry)
        self.unauthenticated_links = Gauge(
            prefix + "unauthenticated_links", "Connections that have shown no certificate yet.", registry=registry
        )
        self.links_refused = Counter(
            prefix + "links_refused", "Connections that never became a link, by reason.", ["reason"], registry=registry
        )
        self.links_ended = Counter(
            prefix + "links_ended", "Links that ended, by reason.", ["reason"], registry=registry
        )
        self.messages = Counter(prefix + "messages", "Messages received, by type.", ["type"], registry=registry)
        self.certificates = Counter(
            prefix + "certificates_issued", "Certificates issued, by attestation.", ["method"], registry=registry
        )
        self.requests_refused = Counter(
            prefix + "requests_refused",
            "Requests of sidecars answered with a Nack, by message and code.",
            ["about", "code"],
            registry=registry,
        )
        self.snapshots = Counter(prefix + "snapshots_sent", "Snapshots sent to sidecars.", registry=registry)
        self.snapshot_refusals = Counter(
            prefix + "snapshots_refused", "Snapshots that a sidecar refused.", registry=registry
        )
        self.enforced_after = Histogram(
            prefix + "enforced_after_seconds",
            "From sending a snapshot to its acknowledgement.",
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
            registry=registry,
        )
        self.number = Gauge(prefix + "store_number", "The store number that is being pushed.", registry=registry)
        self.policies = Gauge(prefix + "policies", "Policy documents in force.", registry=registry)
        self.endpoints = Gauge(
            prefix + "endpoints",
            "Endpoints that sidecars can be told of, registered ones and the cluster's.",
            registry=registry,
        )
        self.platform_endpoints = Gauge(
            prefix + "platform_endpoints", "Endpoints that the cluster's pods are.", registry=registry
        )
        self.platform_services = Gauge(
            prefix + "platform_services",
            "Ports of the cluster's services that are in the mesh, once for each IP version.",
            registry=registry,
        )
        self.platform_over = Gauge(
            prefix + "platform_over_limit",
            "Namespaces that have more ports or backends than there is room for in snapshots.",
            registry=registry,
        )
        self.issuer_expiry = Gauge(
            prefix + "issuer_expiry_timestamp_seconds", "NotAfter of the issuing certificate.", registry=registry
        )
        self.root_expiry = Gauge(
            prefix + "root_expiry_timestamp_seconds", "Earliest NotAfter of the own roots.", registry=registry
        )
        self.operators_refused = Counter(
            prefix + "operators_refused",
            "Connections and requests to the operators' address that were refused, by reason.",
            ["reason"],
            registry=registry,
        )
        self.admissions = Counter(
            prefix + "admissions",
            "Pods that API servers asked the injector about, by outcome: injected, unchanged, skipped or refused.",
            ["outcome"],
            registry=registry,
        )
        self.admission_seconds = Histogram(
            prefix + "admission_seconds",
            "From the last byte of an AdmissionReview to its answer.",
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
            registry=registry,
        )
        self.injector_refused = Counter(
            prefix + "injector_refused",
            "Connections and requests to the injector's address that were no AdmissionReview, by reason.",
            ["reason"],
            registry=registry,
        )
        self.serving_certificate_expiry = Gauge(
            prefix + "serving_certificate_expiry_timestamp_seconds",
            "NotAfter of the injector's serving certificate; 0 where there is no injector.",
            registry=registry,
        )
        self.gave_way = Counter(
            prefix + "connections_gave_way",
            "Connections for HTTP that gave way to newer ones, by place.",
            ["place"],
            registry=registry,
        )
        self.kubernetes_away = Gauge(
            prefix + "kubernetes_away", "1 while the Kubernetes API server does not answer.", registry=registry
        )
        self.kubernetes_requests_failed = Counter(
            prefix + "kubernetes_requests_failed",
            "Requests to the Kubernetes API without a good answer, by HTTP status, or unreachable, or strange.",
            ["reason"],
            registry=registry,
        )
        self.kubernetes_objects = Gauge(
            prefix + "kubernetes_objects",
            "Objects kept from watching the cluster, by kind.",
            ["kind"],
            registry=registry,
        )
        self.kubernetes_lists = Counter(
            prefix + "kubernetes_lists",
            "Complete lists read before watching, by kind: many of them mean that watches cannot be resumed.",
            ["kind"],
            registry=registry,
        )
        self.policy_objects = Gauge(
            prefix + "policy_objects",
            "Policies as cluster objects, by what became of them: accepted, faults, owned_by_cli or pending.",
            ["verdict"],
            registry=registry,
        )
        self.failures = Counter(
            prefix + "failures", "Errors that no code foresaw, by place; see the log.", ["place"], registry=registry
        )

    def text(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self.registry)
