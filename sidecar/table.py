"""The table of settings: one row each, from which flags, environment names, TOML keys, help and docs are made.

A row named `dial_timeout` is the flag --dial-timeout, the variable DOORWARD_DIAL_TIMEOUT and the TOML key
dial_timeout; rows of limits stand in the TOML table [limits].
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import attrs
from attrs import frozen

from certs.spiffe import WorkloadName
from sidecar import parsing, probe_list
from sidecar.settings import EGRESSES, LOG_LEVELS, REQUEST_LOGS, Address, Limits, Settings


@frozen
class Row:
    """One setting. `accepted` completes the sentence "write …"; `many` may be given several times; a `switch` is on
    where its flag is given alone; what is not `shown` may hold a password, and no message repeats it."""

    name: str
    parse: Callable[[str], object]
    accepted: str
    meaning: str
    metavar: str
    many: bool = False
    required: bool = False
    limit: bool = False
    switch: bool = False
    shown: bool = True

    @property
    def flag(self) -> str:
        """Its flag on the command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return "DOORWARD_" + self.name.upper()

    @property
    def key(self) -> str:
        """Its place in the TOML file."""
        return f"limits.{self.name}" if self.limit else self.name


def _limit(name: str, meaning: str) -> Row:
    # By type and name: a float is a duration, *_bytes a size, all else a count.
    if attrs.fields_dict(Limits)[name].type is float:
        return Row(
            name, parsing.seconds, "a duration above zero, such as 500ms, 10s, 5m or 1h", meaning, "TIME", limit=True
        )
    if name.endswith("_bytes"):
        return Row(
            name, parsing.size, "a size of at least 1 KiB, such as 65536, 64KiB or 1MiB", meaning, "SIZE", limit=True
        )
    return Row(name, parsing.count, "a whole number from 1", meaning, "N", limit=True)


ROWS: Final = (
    Row(
        "workload",
        parsing.workload,
        "namespace/workload, such as shop/checkout",
        "The workload whose identity this sidecar carries.",
        "NAMESPACE/WORKLOAD",
        required=True,
    ),
    Row(
        "control_plane",
        parsing.dial_address,
        "HOST:PORT, such as 127.0.0.1:7443",
        "Where the control plane listens for sidecars.",
        "HOST:PORT",
        required=True,
    ),
    Row(
        "bundle",
        parsing.path,
        "the path of a PEM file, as `doorward bundle show` prints it",
        "Roots to which the control plane's certificate must lead; read anew at every attempt to connect.",
        "FILE",
        required=True,
    ),
    Row(
        "token_file",
        parsing.file_or_stdin,
        "a file's path, or - for standard input",
        "The token that attests: from `doorward token create`, or a pod's service account's; the file is read anew at "
        "every attempt.",
        "FILE",
        required=True,
    ),
    Row(
        "trust_domain",
        parsing.trust_domain,
        "a name of a-z, 0-9, '.', '_' and '-', such as cluster.local",
        "The trust domain of this mesh.",
        "NAME",
    ),
    Row(
        "inbound",
        parsing.inbound,
        "IP:PORT=HOST:PORT/PROTOCOL with http, tcp or auto, such as 0.0.0.0:8443=127.0.0.1:8080/http, and behind it "
        ",port=PORT where policies know the application by another port",
        "Listen for mTLS on the first address and pass what policy allows on to the application at the second.",
        "BIND=APPLICATION/PROTOCOL",
        many=True,
    ),
    Row(
        "outbound",
        parsing.outbound,
        "LOOPBACK-IP:PORT=NAMESPACE/WORKLOAD:PORT or unix:PATH=NAMESPACE/WORKLOAD:PORT, such as "
        "127.0.0.1:9001=shop/payments:8080",
        "Listen in plaintext for the local application and pass it on, under this identity, to that workload's port.",
        "BIND=DESTINATION",
        many=True,
    ),
    Row(
        "transparent",
        parsing.switch,
        "true or false",
        "Take the connections that `doorward-sidecar redirect` sends here, and carry them where their callers meant.",
        "BOOL",
        switch=True,
    ),
    Row(
        "ports",
        parsing.declared_port,
        "PORT/PROTOCOL with http, tcp or auto, such as 8080/http",
        "In transparent mode: a port of the application, announced to the mesh, and what it speaks. Any other port is "
        "auto and not announced.",
        "PORT/PROTOCOL",
        many=True,
    ),
    Row(
        "transparent_inbound_port",
        parsing.port,
        "a port from 1 to 65535",
        "Port to which connections from outside are redirected.",
        "PORT",
    ),
    Row(
        "transparent_outbound_port",
        parsing.port,
        "a port from 1 to 65535",
        "Port to which the application's own connections are redirected.",
        "PORT",
    ),
    Row(
        "mesh_cidrs",
        parsing.network,
        "an IP network, such as 10.0.0.0/8 or fd00::/8",
        "In transparent mode: where only the mesh is. A destination there that nobody announced is refused, and never "
        "called in plaintext.",
        "CIDR",
        many=True,
    ),
    Row(
        "egress",
        parsing.one_of(EGRESSES),
        " or ".join(EGRESSES),
        "In transparent mode: whether the application may call destinations outside the mesh, in plaintext as it meant "
        "to.",
        "WHICH",
    ),
    Row(
        "advertise",
        parsing.ip_address,
        "an IP address, such as 10.0.0.7",
        "Address at which other sidecars reach this one, where it is not the one that the control link comes from.",
        "IP",
        many=True,
    ),
    Row(
        "observe",
        parsing.observe_address,
        "IP:PORT, such as 127.0.0.1:15020, or *:PORT for every address of both IP versions",
        "Where /ready, /live, /metrics, /probe/… and (for loopback callers only) /config are served.",
        "IP:PORT",
    ),
    Row(
        "probes",
        probe_list.probes,
        'a JSON list, such as [{"name": "web/liveness", "http": {"port": 8080, "path": "/healthz"}, "timeout": 1}]',
        "The kubelet's probes of the application, which this sidecar performs when it is asked at /probe/NAME.",
        "JSON",
        shown=False,
    ),
    Row(
        "observe_hosts",
        parsing.host_name,
        "a host name or IP address",
        "A further Host name to which /ready and its neighbours answer; IP addresses and localhost always do.",
        "NAME",
        many=True,
    ),
    Row(
        "request_log",
        parsing.one_of(REQUEST_LOGS),
        ", ".join(REQUEST_LOGS),
        "Which requests and connections get a line in the access log on standard output.",
        "WHICH",
    ),
    Row(
        "log_level",
        parsing.one_of(LOG_LEVELS),
        ", ".join(LOG_LEVELS),
        "Least level of the process log on standard error.",
        "LEVEL",
    ),
    Row(
        "run_file",
        parsing.path,
        "a file's path",
        "Write the addresses really bound there, as JSON, once all listeners stand.",
        "FILE",
    ),
    _limit(
        "max_connections",
        "Accepted connections open at once, over all listeners. Where there is no room, the one gives way whose client "
        "has asked nothing for the longest time.",
    ),
    _limit(
        "unauthenticated_total",
        "Connections at once that have not finished their TLS handshake. Where there is no room, one that has had 2 s "
        "gives way, and at once one of an address that holds more than the newcomer's.",
    ),
    _limit("unauthenticated_per_address", "The same, from one source address."),
    _limit("handshake_timeout", "For one TLS handshake, on either side."),
    _limit("dial_timeout", "For one TCP connect, to the application or to one mesh endpoint."),
    _limit("dial_attempts", "Endpoints tried for one connection or request."),
    _limit("tcp_idle_timeout", "Before a TCP connection or WebSocket without a byte either way is closed."),
    _limit("buffer_bytes", "Bytes held per direction of one connection while its reader is slow."),
    _limit("head_bytes", "Request line and headers together, trailers, or the same of a response; 431 above it."),
    _limit("keep_alive_timeout", "Between two requests on one connection."),
    _limit("request_head_timeout", "From the first byte of a request to the end of its head."),
    _limit(
        "response_head_timeout",
        "From the end of a request to the head of its response; 504 after it. Outbound waits one second more, so that "
        "the sidecar that is called can say why.",
    ),
    _limit("body_idle_timeout", "Without a byte inside a body, or with a reader that takes less than a buffer of it."),
    _limit("drain_body_bytes", "Of a refused request's body read, so that its connection can be used again."),
    _limit("drain_body_timeout", "Time spent on the same, and on reading away what still comes before a close."),
    _limit("pool_connections", "Idle upstream connections kept per endpoint or caller."),
    _limit("pool_idle_timeout", "Before an idle upstream connection is closed."),
    _limit("control_timeout", "For connecting to the control plane, and for each answer awaited from it."),
    _limit("ping_interval", "Silence on the control link after which the control plane is asked for a sign of life."),
    _limit(
        "link_fresh", "After the control plane's last word TCP connections may outlive their certificates this long."
    ),
    _limit("backoff_initial", "First wait before a new attempt to connect or to renew; it doubles, with jitter."),
    _limit("backoff_max", "Longest such wait."),
    _limit("drain_timeout", "From SIGTERM until what is still in flight is cut off."),
    _limit("metric_identities", "Distinct identities as metric labels; further ones are counted as `other`."),
    _limit("log_lines", "Access log lines that wait for a slow reader; further ones are dropped and counted."),
    _limit(
        "observe_connections", "Connections at once to /ready and its neighbours; the oldest gives way to a newcomer."
    ),
    _limit("observe_timeout", "For one request to them."),
)

_EXAMPLE: Final = Settings(WorkloadName("shop", "checkout"), Address("127.0.0.1", 7443), Path("bundle.pem"))

BY_NAME: Final = {row.name: row for row in ROWS}


def default_of(row: Row) -> str:
    """The row's default as a user would write it, "" where there is none."""
    if row.required:
        return ""
    value = getattr(_EXAMPLE.limits if row.limit else _EXAMPLE, row.name)
    if value is None or value == ():
        return ""
    if row.switch:
        return str(value).lower()
    if row.metavar == "TIME":
        return f"{value:g}s"
    if row.metavar == "SIZE":
        return f"{value // 1024}KiB"
    return str(value)


def reference() -> Iterator[str]:
    """The table in Markdown, line by line, as docs/configuration/sidecar.md carries it."""
    yield "| Flag | Environment | TOML key | Default | Meaning |"
    yield "|---|---|---|---|---|"
    for row in ROWS:
        default = f"`{text}`" if (text := default_of(row)) else ("required" if row.required else "none")
        several = " May be given several times." if row.many else ""
        accepted = f" Write {row.accepted}.".replace("|", "\\|")
        yield f"| `{row.flag}` | `{row.variable}` | `{row.key}` | {default} | {row.meaning}{several}{accepted} |"
