"""The kubelet's probes of the application, performed by the sidecar: the kubelet has no certificate for the mesh.

An injected pod's probes ask this sidecar at /probe/<name>, and it asks the application what the kubelet would have:
GET, whose answer of 200 to 399 is good, or a TCP connection that is opened and closed. Only what the settings name can
be asked, and nothing of the answer's body is passed on. As the kubelet, it does not verify the certificate of an HTTPS
application; unlike the kubelet it follows no redirects.
"""

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Final

import h11
import trio
from attrs import frozen
from OpenSSL import SSL

from sidecar import log
from sidecar.metrics import Metrics
from sidecar.settings import Address, HttpGet, Probe
from transport import (
    ConnectFailed,
    ConnectRefused,
    ConnectTimeout,
    Dialled,
    PlainStream,
    TlsFailed,
    TlsStream,
    dial,
)

MAX_HEAD_BYTES: Final = 16 * 1024
MAX_BODY_BYTES: Final = 10 * 1024  # as much as the kubelet reads (k8s.io/kubernetes/pkg/probe/http)
RECEIVE_BYTES: Final = 4 * 1024

HEALTHY: Final = "healthy"

_DEFAULTS: Final = (("User-Agent", "kube-probe/doorward"), ("Accept", "*/*"))
_OURS: Final = {
    "host",
    "connection",
    "content-length",
    "transfer-encoding",
    "trailer",
}  # the kubelet writes them itself


@frozen
class Outcome:
    """What became of a probe: HEALTHY, or in a word why not. `status` is the HTTP answer's, where there was one."""

    name: str
    status: int | None = None


class Prober:
    """Performs the probes of the settings, which `probes` has by name. `dialled` is told of its connections."""

    def __init__(self, probes: Sequence[Probe], metrics: Metrics, dialled: Dialled) -> None:
        self.probes = {probe.name: probe for probe in probes}
        self._metrics = metrics
        self._dialled = dialled
        self._last: dict[str, Outcome] = {}

    async def perform(self, probe: Probe, here: str) -> Outcome:
        """Ask the application within the probe's timeout; at the IP address `here` where the probe names no host."""
        outcome = Outcome("timeout")
        with trio.move_on_after(probe.timeout):
            outcome = await self._asked(probe, Address(probe.host or here, probe.port))
        self._metrics.probe(probe.name, outcome.name)
        if self._last.get(probe.name) != outcome:
            self._last[probe.name] = outcome
            log.info("probe changed", probe=probe.name, outcome=outcome.name, status=outcome.status)
        return outcome

    async def _asked(self, probe: Probe, address: Address) -> Outcome:
        try:
            plain = await dial(address.host, address.port, deadline=probe.timeout, dialled=self._dialled)
            if probe.http is None:
                await plain.aclose()
                return Outcome(HEALTHY)
            async with await _secured(plain, address.host) if probe.http.scheme == "HTTPS" else plain as stream:
                status = await _get(stream, probe.http, address)
        except (ConnectFailed, trio.BrokenResourceError, h11.ProtocolError) as error:
            return Outcome(_in_a_word(error))
        return Outcome(HEALTHY if probe.hook or 200 <= status < 400 else "status", status)


def _in_a_word(error: Exception) -> str:
    match error:
        case ConnectRefused():
            return "refused"
        case ConnectTimeout():
            return "timeout"
        case ConnectFailed():
            return "unreachable"
        case TlsFailed():
            return "tls_failed"
        case h11.ProtocolError():
            return "not_http"
    return "reset"


async def _secured(plain: PlainStream, host: str) -> TlsStream:
    """TLS without verification. Raises TlsFailed or BrokenResourceError."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_verify(SSL.VERIFY_NONE)
    stream = TlsStream(plain.socket, context, server_side=False)
    if not _is_address(host):
        stream.connection.set_tlsext_host_name(host.encode())
    try:
        await stream.do_handshake()
    except BaseException:
        stream.abort()
        raise
    return stream


async def _get(stream: PlainStream | TlsStream, http: HttpGet, address: Address) -> int:
    """The status of the answer, whose body is read to its end or as far as the kubelet would.

    Raises BrokenResourceError or h11.ProtocolError.
    """
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
    request = h11.Request(method="GET", target=http.path, headers=_fields(http, address))
    await stream.send_all((connection.send(request) or b"") + (connection.send(h11.EndOfMessage()) or b""))
    status, left = 0, MAX_BODY_BYTES
    while left > 0:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await stream.receive_some(RECEIVE_BYTES))
        elif isinstance(event, h11.Response | h11.InformationalResponse):
            status = event.status_code
        elif isinstance(event, h11.Data):
            left -= len(event.data)
        else:  # its end
            break
    return status


def _fields(http: HttpGet, address: Address) -> list[tuple[str, str]]:
    """The header fields as the kubelet writes them: an empty User-Agent or Accept leaves out the usual one."""
    given = {name.lower(): value for name, value in reversed(http.headers)}
    usual = [(name, value) for name, value in _DEFAULTS if name.lower() not in given]
    empty = {name.lower() for name, _ in _DEFAULTS if not given.get(name.lower(), name)}
    own = [(name, value) for name, value in http.headers if name.lower() not in _OURS | empty]
    return [("Host", given.get("host") or str(address)), *usual, *own, ("Connection", "close")]


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
