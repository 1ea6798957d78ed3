"""Programs that know of no mesh go through it, over IPv4 and IPv6, and whatever they do nobody gets around it."""

import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import frozen

from certs.authority import Authority
from certs.bundle import TrustBundle
from certs.keys import new_key
from certs.spiffe import SpiffeId
from certs.svid import Svid
from certs.tls import client_context
from examples.demo.local_mesh import Sidecar, wait_for, wait_until_ready
from sidecar.settings import INBOUND_PORT, OUTBOUND_PORT, Address
from sidecar.view import ALPN_TCP
from tests.support.namespaces import Network, Pod
from tests.support.patience import PATIENCE
from tests.support.stock import program
from tests.support.transparent import (
    APPLICATION,
    DEBUG,
    ENDED,
    GET,
    HTTP,
    OK,
    SIDECAR,
    SOMEBODY,
    TCP,
    UNDECLARED,
    WEB,
    Pods,
    answer,
    open_pods,
    redirect,
    say,
    start_transparent,
)
from transport import TlsStream

FORBIDDEN = b"GET /refunds HTTP/1.1\r\nHost: payments\r\nConnection: close\r\n\r\n"
PERMISSIVE = """
apiVersion: doorward.dev/v1
kind: NamespaceDefaults
metadata: {name: defaults, namespace: shop}
spec: {mtls: permissive}
"""
TO_BOTH = """
apiVersion: doorward.dev/v1
kind: AllowPolicy
metadata: {name: checkout-calls-both, namespace: shop}
spec:
  to: {workload: both}
  from: [{workload: checkout}]
"""
TO_ITSELF = """
apiVersion: doorward.dev/v1
kind: AllowPolicy
metadata: {name: alone-calls-itself, namespace: shop}
spec:
  to: {workload: alone}
  from: [{workload: alone}]
"""
FROM_OUTSIDE = """
apiVersion: doorward.dev/v1
kind: AllowPolicy
metadata: {{name: outside-calls-payments, namespace: shop}}
spec:
  to: {{workload: payments, ports: [8080]}}
  from: [{{unauthenticated: true, addresses: ["{ipv4}/32", "{ipv6}/128"]}}]
  http: [{{paths: ["/charges"]}}]
"""


@pytest.fixture
async def pods(network: Network, short_directory: Path) -> AsyncIterator[Pods]:
    async with open_pods(network, short_directory) as pods:
        yield pods


async def recorded(sidecar: Sidecar, reason: str, *, behind: int = 0, **wanted: str) -> dict[str, Any]:
    """The last record with that reason, and these values, behind the first ones of a sidecar's access log."""
    wanted["reason"] = reason
    with trio.fail_after(PATIENCE):
        while not (found := [each for each in sidecar.records()[behind:] if wanted.items() <= each.items()]):
            await trio.sleep(0.02)
    return found[-1]


async def test_an_unmodified_client_reaches_an_unmodified_server(pods: Pods) -> None:
    for version, host in (("4", pods.server.ipv4), ("6", pods.server.ipv6)):
        url = f"http://{host}:{HTTP}" if version == "4" else f"http://[{host}]:{HTTP}"
        curl = [program("curl"), "--silent", "--show-error", "--max-time", str(PATIENCE)]
        answer = await pods.client.run([*curl, f"{url}/charges"], uid=APPLICATION)
        assert (answer.out, answer.err) == ("ok", "")
        seen = pods.seen.pop()
        assert b"x-forwarded-client-cert: By=spiffe://cluster.local/ns/shop/sa/payments;" in seen.data
        assert b"URI=spiffe://cluster.local/ns/shop/sa/checkout\r\n" in seen.data
        assert seen.address == host, "from the pod's own address, not from loopback (law 7)"
        await recorded(pods.checkout, "", original=str(Address(host, HTTP)), path="/charges")
        denied = await pods.client.run([*curl, f"{url}/refunds"], uid=APPLICATION)
        assert '"reason": "no_policy_matched"' in denied.out
        assert await say(pods.client, host, TCP, b"no HTTP at all") == OK
        assert pods.seen.pop().data == b"no HTTP at all"
    assert pods.seen == []


@frozen
class Detour:
    """A way around a sidecar: what somebody tries, what it may get, and the reason that the server's sidecar logs."""

    tries: str
    go: Callable[[], Awaitable[str]]
    gets: tuple[str, ...] = ENDED
    reason: str = ""


async def test_no_detour_leads_around_the_sidecars(pods: Pods, record_property: Callable[[str, object], None]) -> None:
    for host in (pods.server.ipv4, pods.server.ipv6):
        loopback = await redirected_loopback(pods, "::1" if ":" in host else "127.0.0.1")
        with_a_key = [*with_a_certificate(pods, host), await routed_through_the_server(pods, host)]
        for detour in [*from_outside(pods, host), *with_a_key, loopback, *from_the_clients_pod(pods, host)]:
            before = len(pods.payments.records())
            got = (await detour.go()).partition(": ")[0]
            record_property("said", f"{detour.tries:<96} {got} {detour.reason}")
            assert got in detour.gets, detour.tries
            if detour.reason:
                await recorded(pods.payments, detour.reason, behind=before)
    assert pods.seen == [], "nothing of it reached an application"


def from_outside(pods: Pods, host: str) -> Iterator[Detour]:
    """What somebody without a sidecar tries, in plaintext."""
    ports = {
        "the application's port": (HTTP, "not_tls"),
        "its TCP port": (TCP, "not_tls"),
        "a port that nobody declared": (UNDECLARED, "not_tls"),
        "a port that listens on loopback only": (DEBUG, "not_tls"),
        "the sidecar's outbound port": (OUTBOUND_PORT, "not_tls"),
        "the sidecar's inbound port": (INBOUND_PORT, "no_original_destination"),
    }
    for what, (port, reason) in ports.items():
        go = partial(say, pods.outside, host, port)
        yield Detour(f"from outside the mesh in plaintext to {what}, {Address(host, port)}", go, reason=reason)


def with_a_certificate(pods: Pods, host: str) -> Iterator[Detour]:
    """What somebody tries who is checkout, by certificate and key, and whom policy allows all of it."""
    ports = {"the sidecar's inbound port": (INBOUND_PORT, "no_original_destination")}
    ports["a port that listens on loopback only"] = DEBUG, "upstream_refused"
    for what, (port, reason) in ports.items():
        go = partial(say_as_checkout, pods, pods.outside, host, port)
        yield Detour(f"with checkout's certificate to {what}, {Address(host, port)}", go, reason=reason)


async def redirected_loopback(pods: Pods, local: str) -> Detour:
    """What somebody else's rule, which redirects loopback too, would open."""
    iptables = "ip6tables" if ":" in local else "iptables"
    rule = f"OUTPUT -o lo -p tcp -d {local} --dport {DEBUG} -m owner ! --uid-owner {SIDECAR}"
    rule += f" -j REDIRECT --to-ports {INBOUND_PORT}"
    await pods.server.must(iptables, "-t", "nat", "-I", *rule.split())
    go = partial(say_as_checkout, pods, pods.server, local, DEBUG)
    tries = f"with checkout's certificate, redirected from loopback, to {Address(local, DEBUG)}"
    return Detour(tries, go, reason="no_original_destination")


async def routed_through_the_server(pods: Pods, host: str) -> Detour:
    """What somebody gets who takes the server for a router: its rules capture that too."""
    platform = pods.network.pods[0]
    elsewhere = platform.ipv6 if ":" in host else platform.ipv4
    await pods.outside.must("ip", "route", "replace", elsewhere, "via", host)
    go = partial(say_as_checkout, pods, pods.outside, elsewhere, TCP)
    tries = f"with checkout's certificate, routed through the server, to {Address(elsewhere, TCP)}"
    return Detour(tries, go, reason="upstream_unreachable")


def from_the_clients_pod(pods: Pods, host: str) -> Iterator[Detour]:
    """What other users of checkout's pod try, and its application."""
    at, local = Address(host, HTTP), "::1" if ":" in host else "127.0.0.1"
    go = partial(say, pods.client, host, HTTP, uid=SIDECAR)
    yield Detour(f"as the sidecar's own user, who is not redirected, to {at}", go, reason="not_tls")
    for who, uid in (("another user", SOMEBODY), ("root", 0)):
        go = partial(say, pods.client, host, HTTP, FORBIDDEN, uid=uid)
        yield Detour(f"as {who}, a path that checkout may not call, to {at}", go, gets=("HTTP/1.1 403 Forbidden",))
    go = partial(say, pods.client, host, UNDECLARED)
    yield Detour(f"from checkout to a port that nobody announced, {Address(host, UNDECLARED)}", go)
    for what, port in (("outbound", OUTBOUND_PORT), ("inbound", INBOUND_PORT)):
        go = partial(say, pods.client, local, port)
        yield Detour(f"from checkout over loopback to its sidecar's {what} port, {Address(local, port)}", go)


async def say_as_checkout(pods: Pods, pod: Pod, host: str, port: int) -> str:
    """What raw bytes over mTLS get that start in that pod, past its sidecar and with a certificate of checkout's."""
    issuer = Authority.load(
        (pods.mesh.state / "issuer.key").read_bytes(), (pods.mesh.state / "issuer.pem").read_bytes()
    )
    key, now = new_key(), datetime.now(UTC)
    checkout = SpiffeId.parse("spiffe://cluster.local/ns/shop/sa/checkout")
    chain = issuer.issue(key.public_key(), checkout, now=now, lifetime=timedelta(hours=1))
    bundle = TrustBundle.from_pem((pods.mesh.directory / "bundle.pem").read_bytes())
    plain = await pod.connect(host, port)
    stream = TlsStream(plain.socket, client_context(Svid(key, chain), bundle, [ALPN_TCP]), server_side=False)
    try:
        await stream.do_handshake()
        await stream.send_all(b"no HTTP at all")
        return "an answer" if await stream.receive_some() else "closed"
    except trio.BrokenResourceError:
        return "reset"
    finally:
        stream.abort()


async def test_permissive_admits_only_what_policy_admits(pods: Pods) -> None:
    await pods.apply(PERMISSIVE)
    for host in (pods.server.ipv4, pods.server.ipv6):
        assert (await say(pods.outside, host, HTTP)).startswith("HTTP/1.1 403 Forbidden")
        assert await say(pods.outside, host, TCP) in ENDED
        assert (await say(pods.client, host, HTTP)) == OK, "and who has a sidecar goes on as before"
    pods.seen.clear()
    await pods.apply(FROM_OUTSIDE.format(ipv4=pods.outside.ipv4, ipv6=pods.outside.ipv6))
    for host in (pods.server.ipv4, pods.server.ipv6):
        assert await say(pods.outside, host, HTTP) == OK
        assert b"x-forwarded-client-cert" not in pods.seen.pop().data
        assert (await say(pods.outside, host, HTTP, FORBIDDEN)).startswith("HTTP/1.1 403 Forbidden")
        assert (await say(pods.network.pods[0], host, HTTP)).startswith("HTTP/1.1 403 Forbidden"), "another address"
    assert pods.seen == []


async def test_what_is_outside_the_mesh_is_called_in_plaintext_where_egress_allows_it(pods: Pods) -> None:
    shut, _ = await pods.another("shop/shut", "--egress", "registry-only")
    cidrs = [word for cidr in ("10.77.0.0/24", "fd00:77::/64") for word in ("--mesh-cidrs", cidr)]
    fenced, _ = await pods.another("shop/fenced", *cidrs)
    for host in (pods.outside.ipv4, pods.outside.ipv6):
        assert await say(pods.client, host, WEB) == OK
        assert pods.seen.pop().data == GET, "byte for byte"
        await recorded(pods.checkout, "egress_allowed", original=str(Address(host, WEB)))
        assert await say(shut, host, WEB) in ENDED
        assert await say(fenced, host, WEB) in ENDED
    assert pods.seen == []


async def test_a_destination_that_joins_the_mesh_is_no_longer_called_in_plaintext(pods: Pods) -> None:
    outside = pods.outside
    stream = await pods.client.connect(outside.ipv4, WEB, uid=APPLICATION)
    async with stream:
        await stream.send_all(GET)
        assert b"200 OK" in await stream.receive_some()
        await start_transparent(pods.mesh, outside, "shop/web", "--ports", f"{WEB}/http")
        with trio.fail_after(PATIENCE), pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()
    await recorded(pods.checkout, "policy_changed", original=f"{outside.ipv4}:{WEB}")
    assert (await say(pods.client, outside.ipv4, WEB)).startswith("HTTP/1.1 403 Forbidden"), "over mTLS from now on"


async def test_a_sidecar_that_is_redirected_to_itself_says_so_and_does_not_spin(pods: Pods) -> None:
    """The rules leave alone the user that they name: a sidecar that runs as another one catches its own connections."""
    pod, sidecar = await pods.another("shop/astray", uid=SOMEBODY, ready=False)
    record = await recorded(sidecar, "redirect_loop", original=pods.mesh.address)
    assert "--sidecar-uid" in record["detail"]
    assert await say(pod, pods.outside.ipv4, WEB) in ENDED, (
        "not even outside the mesh, as nobody knows yet what is in it"
    )
    await recorded(sidecar, "no_snapshot", original=f"{pods.outside.ipv4}:{WEB}")
    redirect(pod, "--exclude-outbound-addresses", pods.network.pods[0].ipv4)
    await wait_until_ready(sidecar, sidecar.observe)
    for host in (pods.outside.ipv4, pods.outside.ipv6):
        assert (await say(pod, host, WEB)) in ENDED
        await recorded(sidecar, "redirect_loop", original=str(Address(host, WEB)))
        there_and_back = partial(of_calls_to, sidecar, Address(host, WEB))
        await wait_for(lambda: len(there_and_back()) > 1, what="both records")  # noqa: B023 # waited for
        assert len(there_and_back()) == 2, "once"
    assert pods.seen == []


def of_calls_to(sidecar: Sidecar, original: Address) -> list[dict[str, Any]]:
    """The records of connections to that address since there was a snapshot."""
    calls = [each for each in sidecar.records() if each.get("original") == str(original)]
    return [each for each in calls if each["reason"] != "no_snapshot"]


async def test_an_application_that_calls_from_a_port_of_its_sidecar_is_not_taken_for_it(pods: Pods) -> None:
    """The kernel gives connections to different places one near end: here it has no other, one port being observe's."""
    pod = await pods.network.pod("narrow")
    pod.inside(lambda: Path("/proc/sys/net/ipv4/ip_local_port_range").write_text("40000 40001"))
    sidecar = await start_transparent(pods.mesh, pod, "shop/narrow")
    assert await say(pod, pods.outside.ipv4, WEB) in ENDED
    await recorded(sidecar, "upstream_unreachable", original=f"{pods.outside.ipv4}:{WEB}")  # no port left to dial from


@pytest.mark.parametrize("version", ["ipv4", "ipv6"])
async def test_a_call_that_leads_back_to_the_same_pod_is_a_call_like_any_other(pods: Pods, version: str) -> None:
    pod = await pods.network.pod("alone")
    host: str = getattr(pod, version)
    options = ["--ports", f"{HTTP}/http", "--ports", f"{TCP}/tcp", "--advertise", host]
    for local, port in ((9001, HTTP), (9002, TCP)):
        options += ["--outbound", f"127.0.0.1:{local}=shop/alone:{port}"]
    sidecar = await start_transparent(pods.mesh, pod, "shop/alone", *options)
    async with trio.open_nursery() as nursery:
        for port in (HTTP, TCP):
            nursery.start_soon(trio.serve_listeners, partial(answer, pods, port), [await pod.listen(port)])
        get = GET.replace(b"payments", b"localhost")
        while "no_endpoint" in (said := await say(pod, "127.0.0.1", 9001, get)):  # it is being dialled back
            await trio.sleep(0.05)
        assert said.startswith("HTTP/1.1 403")
        assert await say(pod, "127.0.0.1", 9002, b"no HTTP") in ENDED
        assert pods.seen == []
        await pods.apply(TO_ITSELF)
        assert await say(pod, "127.0.0.1", 9001, get) == OK
        assert await say(pod, "127.0.0.1", 9002, b"no HTTP") == OK
        assert [(each.port, each.address) for each in pods.seen] == [(HTTP, host), (TCP, host)]
        own = "spiffe://cluster.local/ns/shop/sa/alone"
        await recorded(sidecar, "allowed_by_policy", source=own, destination=own, peer_address=host)
        nursery.cancel_scope.cancel()


async def test_an_explicit_listener_of_a_redirected_pod_leads_where_it_says(pods: Pods, nursery: trio.Nursery) -> None:
    async def close_at_once(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some()
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")

    pod, sidecar = await pods.another("shop/both", "--inbound", f"0.0.0.0:9443=127.0.0.1:{HTTP}/http")
    nursery.start_soon(trio.serve_listeners, close_at_once, [await pod.listen(HTTP, "127.0.0.1")])
    await pods.apply(TO_BOTH)
    assert await say(pods.client, pod.ipv4, HTTP) == OK
    await recorded(sidecar, "allowed_by_policy", source="spiffe://cluster.local/ns/shop/sa/checkout")
    assert await say_as_checkout(pods, pods.outside, pod.ipv6, 9443) in ENDED, "it listens on IPv4"
    nursery.cancel_scope.cancel()


async def test_a_caller_by_link_local_address_reaches_the_application_at_that_address(pods: Pods) -> None:
    """Such an address means something together with its zone only: in both pods that is the one of eth0."""
    addresses = pods.server.inside(Path("/proc/thread-self/net/if_inet6").read_text).splitlines()
    (local,) = (str(IPv6Address(bytes.fromhex(line[:32]))) for line in addresses if line.startswith("fe80"))
    zone = pods.outside.inside(partial(socket.if_nametoindex, "eth0"))
    assert await say_as_checkout(pods, pods.outside, f"{local}%{zone}", TCP) == "an answer"
    assert pods.seen.pop().address == local
