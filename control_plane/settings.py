"""What the control plane can be told: one frozen value, every part with a default except the state directory.

The command line (control_plane.cli) builds it; control_plane.program runs it. Times are timedeltas where certificates
and the store use them, and seconds (float) where trio waits for them.
"""

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from attrs import Attribute, Factory, field, frozen
from attrs.validators import ge, gt

from control_plane.store.retention import DEFAULT, MIB, Retention


class SettingRefused(ValueError):
    """A setting has no usable value; the text names the setting and what it accepts."""


def _longer_than_zero(_: object, attribute: "Attribute[timedelta]", value: timedelta) -> None:
    if value <= timedelta(0):
        raise SettingRefused(f"{attribute.name}: {value} is no duration: give one above zero, such as 1h")


_seconds: Callable[..., Any] = gt(0)
_count: Callable[..., Any] = ge(1)


@frozen
class HostPort:
    """Where to listen: an IP address (or a host name of this machine) and a port; port 0 lets the system choose."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str, setting: str = "address") -> Self:
        """Read `HOST:PORT` or `[IPV6]:PORT`. Raises SettingRefused, naming `setting`."""
        host, colon, port = text.rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        host = host[1:-1] if bracketed else host
        if not colon or not host or (":" in host) != bracketed or not (port.isascii() and port.isdigit()):
            raise SettingRefused(f"{setting}: {text[:80]!r}: write HOST:PORT, such as 127.0.0.1:7443 or [::1]:7443")
        if int(port) > 65535:
            raise SettingRefused(f"{setting}: port {port[:10]} is above 65535")
        return cls(host, int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@frozen
class Lifetimes:
    """How long what the control plane hands out is good for."""

    certificate: timedelta = field(default=timedelta(hours=1), validator=_longer_than_zero)
    """A workload's SVID; sidecars renew at half of it."""
    own_certificate: timedelta = field(default=timedelta(hours=24), validator=_longer_than_zero)
    """The control plane's own SVID, renewed in memory at half of it."""
    issuer: timedelta = field(default=timedelta(days=90), validator=_longer_than_zero)
    """The issuing intermediate, replaced at half of it."""
    root: timedelta = field(default=timedelta(days=3650), validator=_longer_than_zero)
    """The root, where the first run makes one."""
    attestation: timedelta = field(default=timedelta(days=30), validator=_longer_than_zero)
    """How long renewals may follow one attestation before a new token is needed (law 8)."""
    lease: timedelta = field(default=timedelta(seconds=90), validator=_longer_than_zero)
    """How long a registered endpoint stays without its sidecar renewing it (law 4)."""
    operator: timedelta = field(default=timedelta(hours=24), validator=_longer_than_zero)
    """The longest that an operator's certificate may be asked for."""
    policy_history: timedelta = field(default=DEFAULT.age, validator=_longer_than_zero)
    """How long each version of a policy is kept where there is room, and the newest of one that was removed."""


@frozen
class Limits:
    """Everything that an outsider could make grow or wait, bounded (law 21). Durations are seconds."""

    links: int = field(default=10_000, validator=_count)
    """Links of all sidecars together."""
    unauthenticated_links: int = field(default=256, validator=_count)
    """Links that have shown no valid certificate yet."""
    unauthenticated_links_per_address: int = field(default=64, validator=_count)
    handshake_timeout: float = field(default=10.0, validator=_seconds)
    """From accept to the end of the TLS handshake."""
    hello_timeout: float = field(default=10.0, validator=_seconds)
    """From the handshake to the sidecar's Hello."""
    unauthenticated_lifetime: float = field(default=30.0, validator=_seconds)
    """A link without a certificate is there to get one; it ends after this long."""
    unauthenticated_requests: int = field(default=4, validator=_count)
    """Certificate requests that a link without a certificate may make."""
    renewals_per_minute: int = field(default=600, validator=_count)
    """Certificates that one identity, with all its instances, may renew or attest as pods in a minute."""
    write_timeout: float = field(default=30.0, validator=_seconds)
    """A sidecar that does not take a message within this is gone."""
    ping_interval: float = field(default=15.0, validator=_seconds)
    silence_timeout: float = field(default=45.0, validator=_seconds)
    """A sidecar that says nothing, not even Pong, for this long is gone."""
    lease_renewal: float = field(default=30.0, validator=_seconds)
    """How often a connected sidecar's leases are renewed."""
    endpoints_per_identity: int = field(default=10_000, validator=_count)
    """Registered endpoints of one identity, all instances together."""
    proof_timeout: float = field(default=5.0, validator=_seconds)
    """How long dialling back an announced address may take (law 3)."""
    proofs_at_once: int = field(default=64, validator=_count)
    """Announced addresses that are dialled back at the same time, for all sidecars together."""
    review_timeout: float = field(default=8.0, validator=_seconds)
    """How long the API server may take for one service-account token, waiting for its turn included."""
    reviews_at_once: int = field(default=8, validator=_count)
    """Service-account tokens about which the API server is asked at the same time."""
    metrics_connections: int = field(default=64, validator=_count)
    """Connections to the observe address at the same time."""
    admin_connections: int = field(default=64, validator=_count)
    """The same, to the admin socket."""
    operator_connections: int = field(default=64, validator=_count)
    """The same, of operators to the address where the admin API answers over TLS."""
    injector_connections: int = field(default=256, validator=_count)
    """The same, of API servers to the injector's address."""
    policy_versions: int = field(default=DEFAULT.versions, validator=_count)
    """Versions of one policy that are kept however old they are, where there is room."""
    policy_history_mib: int = field(default=DEFAULT.history_bytes // MIB, validator=_count)
    """Room for all versions that are not in force, in MiB; the namespace that holds most gives way."""
    audit_mib: int = field(default=DEFAULT.audit_bytes // MIB, validator=_count)
    """Room for the audit log, in MiB; the namespace that holds most gives way."""


SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where Kubernetes puts a pod's own token, the cluster's CA and the namespace's name."""

_DNS_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*")


@frozen
class KubernetesSettings:
    """The cluster in which the control plane runs, where it does."""

    server: str = "off"
    """`off`, `in-cluster` (where the environment says), or `https://HOST:PORT`."""
    token_file: Path | None = None
    """The bearer token, re-read for each request; None for the service account's."""
    ca: Path | None = None
    """The CAs of the API server, PEM; None for the service account's."""
    namespace: str | None = None
    """The control plane's own namespace; None for the service account's, and `doorward` where there is none."""
    token_audience: str = "doorward"  # noqa: S105  # the audience's name is no secret
    """For whom a workload's service-account token has to be made."""
    ca_secret: str | None = None
    """A Secret of the own namespace that holds the CA, and is made where it is missing; instead of files."""
    injector_listen: HostPort | None = None
    """Where the injector's webhook answers API servers; None for nowhere."""
    injector_config: Path | None = None
    """What the injector puts into pods; None for the defaults."""
    injector_service: str | None = None
    """The DNS name in the webhook's certificate; None for that of the Service `doorward-injector` in `namespace`."""
    injector_webhook: str = "doorward-injector"
    """The MutatingWebhookConfiguration whose caBundle is kept current."""

    def __attrs_post_init__(self) -> None:
        if self.enabled:
            self._check_server()
        else:
            self._check_nothing_else()
        names = {
            "kubernetes_namespace": self.namespace,
            "ca_secret": self.ca_secret,
            "injector_service": self.injector_service,
            "injector_webhook": self.injector_webhook,
        }
        for name, value in names.items():
            if value is not None and (len(value) > 253 or not _DNS_NAME.fullmatch(value)):
                raise SettingRefused(
                    f"{name}: {value[:80]!r} is no name in a cluster: write it as in DNS, in lower case"
                )
        if self.injector_config is not None and self.injector_listen is None:
            raise SettingRefused("injector_config is for an injector: say where it listens by injector_listen")

    @property
    def enabled(self) -> bool:
        """Whether there is a cluster."""
        return self.server != "off"

    def _check_server(self) -> None:
        if self.server == "in-cluster":
            return
        try:
            url = urlsplit(self.server)
            usable = url.scheme == "https" and url.hostname and url.port != 0
        except ValueError:
            usable = False
        if not usable or self.server.rstrip("/") != f"https://{url.netloc}" or "@" in url.netloc:
            raise SettingRefused(
                f"kubernetes: {self.server[:80]!r} is no API server: write off, in-cluster or https://HOST:PORT"
            )

    def _check_nothing_else(self) -> None:
        given = {
            "kubernetes_token_file": self.token_file,
            "kubernetes_ca": self.ca,
            "kubernetes_namespace": self.namespace,
            "ca_secret": self.ca_secret,
            "injector_listen": self.injector_listen,
            "injector_config": self.injector_config,
        }
        for name, value in given.items():
            if value is not None:
                raise SettingRefused(
                    f"{name} needs a cluster: give kubernetes too (in-cluster in a pod), or leave {name} out"
                )


@frozen
class ControlPlaneSettings:
    """Everything that `control_plane.program.run` is told."""

    state: Path
    """The state directory: keys, the embedded store, the admin socket, run.json."""
    listen: HostPort = HostPort("127.0.0.1", 7443)
    """Where sidecars connect."""
    observe: HostPort | None = HostPort("127.0.0.1", 7480)
    """Where /ready, /live and /metrics answer; None for nowhere."""
    observe_hosts: tuple[str, ...] = ()
    """Host names, besides IP addresses and localhost, under which the observe address may be asked (law 22)."""
    trust_domain: str | None = None
    """The trust domain; None for what the state directory holds, or `cluster.local` on the first run."""
    ca_certificate: Path | None = None
    ca_key: Path | None = None
    """A CA of your own (PEM, chain up to its root; its key); both or neither. None: one is made on the first run."""
    store_url: str | None = None
    """SQLAlchemy URL of the store; None for the SQLite file in the state directory."""
    admin_socket: Path | None = None
    """The admin API's Unix socket; None for the one in the state directory."""
    admin_listen: HostPort | None = None
    """Where the admin API answers operators over TLS; None for nowhere."""
    kubernetes: KubernetesSettings = Factory(KubernetesSettings)
    lifetimes: Lifetimes = Factory(Lifetimes)
    limits: Limits = Factory(Limits)

    @property
    def retention(self) -> Retention:
        """How much of the past the store keeps."""
        return Retention(
            versions=self.limits.policy_versions,
            age=self.lifetimes.policy_history,
            history_bytes=self.limits.policy_history_mib * MIB,
            audit_bytes=self.limits.audit_mib * MIB,
        )

    def __attrs_post_init__(self) -> None:
        if (self.ca_certificate is None) != (self.ca_key is None):
            raise SettingRefused("ca_certificate and ca_key go together: give both, or neither")
        if self.ca_certificate is not None and self.kubernetes.ca_secret is not None:
            raise SettingRefused("ca_certificate and ca_secret are two ways to give one CA: leave one of them out")
        self._check_pair("lease_renewal", self.limits.lease_renewal, "lease_lifetime", self.lifetimes.lease)
        silence = timedelta(seconds=self.limits.silence_timeout)
        self._check_pair("ping_interval", self.limits.ping_interval, "silence_timeout", silence)

    @staticmethod
    def _check_pair(short: str, seconds: float, long: str, than: timedelta) -> None:
        """What comes too late ends what it should keep: endpoints would flap, idle links would be taken for dead."""
        if seconds >= than.total_seconds():
            raise SettingRefused(
                f"{short} ({seconds:g} s) must be shorter than {long} ({than.total_seconds():g} s): change one of them"
            )
