"""What one sidecar was told to do, as frozen values. sidecar.loading reads them; everything else only looks.

Times are seconds, sizes are bytes. Every number that bounds what an outsider can make grow stands in Limits, with
its default and the reason for it (law 21); docs/configuration/sidecar.md lists them for users.
"""

from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from attrs import field, frozen

from certs.spiffe import SpiffeId, TrustDomain, WorkloadName

INBOUND_PORT = 15006
"""To which connections from outside are redirected in transparent mode."""

OUTBOUND_PORT = 15001
"""To which the application's own connections are redirected in transparent mode."""


HOOKS = ("post-start", "pre-stop")
PROBE_KINDS = ("liveness", "readiness", "startup", *HOOKS)

EVERY_ADDRESS = "*"
"""As the host of a listener: all addresses of both IP versions."""


@frozen
class Address:
    """A host (IP address or name, without brackets) and a TCP port; port 0 asks the kernel for a free one to bind."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@frozen
class Inbound:
    """One application port that this sidecar guards: mTLS arrives at `bind`, what policy allows goes to `application`.

    `protocol` is http, tcp or auto (mesh.wire.PROTOCOLS). `known_as` is the application's port as the mesh knows it,
    where this instance had to take another one. `source` is the local IP address from which the application is dialled,
    the kernel's choice where it is None.
    """

    bind: Address
    application: Address
    protocol: str
    known_as: int | None = None
    source: str | None = None

    @property
    def port(self) -> int:
        """The port that policy speaks of: the application's, never the one that a caller dialled (law 6)."""
        return self.known_as or self.application.port

    def __str__(self) -> str:
        known_as = f",port={self.known_as}" if self.known_as else ""
        return f"{self.bind}={self.application}/{self.protocol}{known_as}"


@frozen
class Outbound:
    """One plaintext door for the local application into the mesh: a loopback address or a Unix socket path."""

    bind: Address | Path
    destination: WorkloadName
    port: int

    @property
    def unix(self) -> bool:
        """True for a Unix socket, which file permissions protect; a TCP port serves every local user (law 22)."""
        return isinstance(self.bind, Path)

    @property
    def target(self) -> str:
        """The destination as the push protocol and the logs write it: `<namespace>/<workload>:<port>`."""
        return f"{self.destination}:{self.port}"

    def __str__(self) -> str:
        bind = f"unix:{self.bind}" if self.unix else str(self.bind)
        return f"{bind}={self.target}"


@frozen
class DeclaredPort:
    """In transparent mode, a port of the application and what it speaks (mesh.wire.PROTOCOLS)."""

    port: int
    protocol: str

    def __str__(self) -> str:
        return f"{self.port}/{self.protocol}"


@frozen
class HttpGet:
    """What an HTTP probe asks: GET of `path`, with a query where it has one, in the clear or over TLS (`scheme`)."""

    scheme: str  # HTTP or HTTPS
    path: str
    headers: tuple[tuple[str, str], ...] = ()


@frozen
class Probe:
    """A question of the kubelet's to the application, which this sidecar asks for it.

    `name` is `<container>/<kind>`. `host` is "" for the address at which the kubelet came in. `http` is None where a
    TCP connection is all that is asked for. `timeout` is in seconds.
    """

    name: str
    port: int
    http: HttpGet | None = None
    host: str = ""
    timeout: float = 1.0

    @property
    def hook(self) -> bool:
        """True for a container's lifecycle hook: the kubelet looks at no status there, only for an answer."""
        return self.name.partition("/")[2] in HOOKS


@frozen
class Limits:
    """Every bound and deadline of the data path and of the control link. Each is a setting of the same name."""

    # Connections
    max_connections: int = 8_192  # accepted connections open at once, all listeners together
    unauthenticated_total: int = 512  # connections that have not finished their TLS handshake
    unauthenticated_per_address: int = 64  # the same, from one source address
    handshake_timeout: float = 10.0  # TLS handshake, either side
    dial_timeout: float = 5.0  # TCP connect to the application or to one mesh endpoint
    dial_attempts: int = 3  # endpoints tried for one connection or request
    tcp_idle_timeout: float = 3600.0  # a TCP connection or upgraded exchange without a byte either way
    buffer_bytes: int = 64 * 1024  # held per direction of one connection

    # HTTP
    head_bytes: int = 64 * 1024  # request line and headers, or trailers, or the same of a response
    keep_alive_timeout: float = 75.0  # between two requests of one connection
    request_head_timeout: float = 10.0  # from a request's first byte to the end of its head
    response_head_timeout: float = 60.0  # from the request's end to the response's head: 504 after it
    body_idle_timeout: float = 60.0  # within a body, without a byte
    drain_body_bytes: int = 64 * 1024  # of a refused request's body read, so that its connection stays usable
    drain_body_timeout: float = 2.0  # spent on the same
    pool_connections: int = 64  # idle upstream connections kept per pool key
    pool_idle_timeout: float = 30.0  # before an idle upstream connection is closed

    # Control link and identity
    control_timeout: float = 10.0  # connect, handshake and each awaited answer of the control plane
    ping_interval: float = 10.0  # silence after which the control plane is asked whether it is there
    link_fresh: float = 60.0  # after the last word of the control plane its link counts as fresh (law 10)
    backoff_initial: float = 0.25  # first wait before a reconnect or a new attempt at a certificate
    backoff_max: float = 30.0  # longest wait of the same

    # Program
    drain_timeout: float = 20.0  # from SIGTERM to the end of what is in flight
    metric_identities: int = 200  # distinct identities as metric labels, all further ones are "other"
    log_lines: int = 10_000  # access log lines waiting for a slow reader of standard output
    observe_connections: int = 64  # connections to /ready, /live, /metrics and /config at once
    observe_timeout: float = 5.0  # for one request to them, head and answer


@frozen
class Settings:
    """One sidecar's whole configuration, checked."""

    workload: WorkloadName
    control_plane: Address
    bundle: Path
    trust_domain: TrustDomain = field(factory=lambda: TrustDomain("cluster.local"))
    token_file: str | None = None  # "-" is standard input
    inbound: tuple[Inbound, ...] = ()
    outbound: tuple[Outbound, ...] = ()
    transparent: bool = False  # redirected connections are taken, and go where their callers meant them to go
    ports: tuple[DeclaredPort, ...] = ()  # of the application in transparent mode; any other one is auto
    transparent_inbound_port: int = INBOUND_PORT
    transparent_outbound_port: int = OUTBOUND_PORT
    mesh_cidrs: tuple[IPv4Network | IPv6Network, ...] = ()  # never plaintext to these, known or not
    egress: str = "allow"  # EGRESSES: what becomes of destinations outside the mesh
    advertise: tuple[str, ...] = ()  # addresses that other sidecars dial; none: where the control link comes from
    observe: Address = field(factory=lambda: Address("127.0.0.1", 15020))
    probes: tuple[Probe, ...] = ()  # of the application's containers, performed for the kubelet at /probe/<name>
    observe_hosts: tuple[str, ...] = ()  # further names that /ready and its neighbours answer to
    request_log: str = "all"  # REQUEST_LOGS
    log_level: str = "info"  # LOG_LEVELS
    run_file: Path | None = None
    limits: Limits = field(factory=Limits)

    @property
    def identity(self) -> SpiffeId:
        """The SPIFFE ID that this sidecar asks for."""
        return self.workload.in_domain(self.trust_domain)


REQUEST_LOGS = ("all", "denied", "off")
EGRESSES = ("allow", "registry-only")
LOG_LEVELS = ("debug", "info", "warning", "error")
