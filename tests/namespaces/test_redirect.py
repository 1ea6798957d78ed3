"""`doorward-sidecar redirect` in a pod: what is captured really is, nothing else is, and nothing of it stays behind."""

import fcntl
import os
import sys
from collections.abc import AsyncIterator
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path

import pytest
import trio

from examples.demo.local_mesh import PROGRAMS, Result
from sidecar.cli import main
from sidecar.redirection import iptables
from tests.support.namespaces import Network, Pod
from tests.support.patience import PATIENCE

INBOUND, OUTBOUND, OBSERVE, PLAIN, EXCLUDED = 15006, 15001, 15020, 8080, 9090
APPLICATION, SIDECAR, AGENT = 1000, 1337, 2000
REDIRECT = [str(PROGRAMS / "doorward-sidecar"), "redirect"]
FOREIGN = r"""*nat
:OTHERS - [0:0]
-A PREROUTING -p tcp -m tcp --dport 99 -m comment --comment "don't \"as\" -j DOORWARD_IN does" -j REDIRECT --to-ports 98
-A OUTPUT -p udp -m udp --dport 53 -j OTHERS
COMMIT
"""


@pytest.fixture
async def pod(network: Network) -> Pod:
    """The pod that is redirected."""
    return await network.pod("captured")


@pytest.fixture
async def outside(network: Network) -> AsyncIterator[Pod]:
    """Another pod, where PLAIN and EXCLUDED answer "outside"."""
    outside = await network.pod("outside")
    async with trio.open_nursery() as nursery:
        for port in (PLAIN, EXCLUDED):
            await answer(nursery, outside, port, "outside")
        yield outside
        nursery.cancel_scope.cancel()


async def answer(nursery: trio.Nursery, pod: Pod, port: int, word: str) -> None:
    """Listen there and send the word to everyone who connects."""

    async def send(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.send_all(word.encode())

    nursery.start_soon(trio.serve_listeners, send, [await pod.listen(port)])


async def ask(pod: Pod, host: str, port: int, uid: int = APPLICATION) -> str:
    """Who answers that user of the pod at `host`."""
    with trio.fail_after(PATIENCE):
        async with await pod.connect(host, port, uid=uid) as stream:
            return b"".join([chunk async for chunk in stream]).decode()


def redirect(pod: Pod, *arguments: str) -> Result:
    """Run the subcommand in the pod, without a process of its own."""
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
        pod.inside(partial(main, ["redirect", *arguments]))
    return Result(ended.value.code, out.getvalue(), err.getvalue())


def install(pod: Pod, *arguments: str) -> str:
    """Install with these flags; returns what it says."""
    result = redirect(pod, "--install", *arguments)
    assert (result.exit, result.err) == (0, "")
    return result.out


async def rules(pod: Pod) -> list[str]:
    """The nat tables of both IP versions."""
    both = [await pod.must(f"{program}-save", "-t", "nat") for program in ("iptables", "ip6tables")]
    return [line for text in both for line in text.splitlines() if not line.startswith("#")]


async def add_foreign_rules(pod: Pod) -> None:
    for program in ("iptables", "ip6tables"):
        await pod.must(f"{program}-restore", "--noflush", stdin=FOREIGN.encode())


async def test_installed_twice_is_installed_once_and_removed_is_as_before(pod: Pod) -> None:
    await add_foreign_rules(pod)
    before = await rules(pod)
    install(pod)
    once = await rules(pod)
    assert len(once) > len(before)
    for program in ("iptables", "ip6tables"):  # as somebody's own script might
        await pod.must(program, "-t", "nat", "-A", "OUTPUT", "-p", "tcp", "-j", "DOORWARD_OUT")
    install(pod)
    assert await rules(pod) == once
    assert redirect(pod, "--remove").out == "IPv4: removed\nIPv6: removed\n"
    assert await rules(pod) == before
    assert redirect(pod, "--remove") == Result(0, "IPv4: nothing to remove\nIPv6: nothing to remove\n", "")
    assert await rules(pod) == before


async def test_the_printed_rules_are_those_that_are_installed(pod: Pod) -> None:
    flags = ["--exclude-inbound-ports", "1-2,3", "--exclude-outbound-addresses", "10.0.0.0/8,fd00::/8"]
    flags += ["--exclude-outbound-ports", "25", "--exclude-uids", "0,4294967294", "--sidecar-uid", "4294967293"]
    for version, program in (("4", "iptables"), ("6", "ip6tables")):
        printed = await pod.run([*REDIRECT, *flags, "--ip-version", version])
        await pod.must(f"{program}-restore", "--noflush", stdin=printed.out.encode())
    piped = await rules(pod)
    install(pod, *flags)
    assert await rules(pod) == piped


@pytest.mark.parametrize("host", ["ipv4", "ipv6"])
async def test_from_outside_every_port_is_captured_but_the_excluded(pod: Pod, outside: Pod, host: str) -> None:
    address = getattr(pod, host)
    async with trio.open_nursery() as nursery:
        for port in (PLAIN, EXCLUDED, OBSERVE):
            await answer(nursery, pod, port, "application")
        await answer(nursery, pod, OUTBOUND, "sidecar's outbound port")
        await answer(nursery, pod, INBOUND, "sidecar")
        assert await ask(outside, address, PLAIN) == "application"
        install(pod, "--exclude-inbound-ports", f"{OBSERVE},{EXCLUDED - 1}-{EXCLUDED}")
        for port in (PLAIN, OUTBOUND, INBOUND, EXCLUDED + 1):
            assert await ask(outside, address, port) == "sidecar", port
        for port in (EXCLUDED, OBSERVE):
            assert await ask(outside, address, port) == "application", port
        for within in (address, "127.0.0.1", "::1"):
            assert await ask(pod, within, PLAIN) == "application", within
        redirect(pod, "--remove")
        assert await ask(outside, address, PLAIN) == "application"
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("host", ["ipv4", "ipv6"])
async def test_to_outside_every_connection_is_captured_but_the_sidecars_and_the_excluded(
    pod: Pod, outside: Pod, host: str
) -> None:
    there = partial(ask, pod, getattr(outside, host))
    async with trio.open_nursery() as nursery:
        await answer(nursery, pod, OUTBOUND, "sidecar")
        assert await there(PLAIN) == "outside"
        install(pod, "--exclude-outbound-ports", str(EXCLUDED), "--exclude-uids", str(AGENT))
        assert await there(PLAIN) == "sidecar"
        assert await there(PLAIN, uid=0) == "sidecar"
        assert await there(PLAIN, uid=SIDECAR) == "outside"
        assert await there(PLAIN, uid=AGENT) == "outside"
        assert await there(EXCLUDED) == "outside"
        install(pod, "--exclude-outbound-addresses", f"{outside.ipv4},{outside.ipv6}")
        assert await there(PLAIN) == "outside"
        assert await there(PLAIN, uid=AGENT) == "outside"
        install(pod, "--sidecar-uid", str(AGENT))  # an exclusion that is not named again is gone
        assert await there(PLAIN) == await there(EXCLUDED) == await there(PLAIN, uid=SIDECAR) == "sidecar"
        nursery.cancel_scope.cancel()


async def test_a_program_of_the_sidecars_user_goes_out_and_any_other_is_captured(pod: Pod, outside: Pod) -> None:
    there = f"({outside.ipv4!r}, {PLAIN}), {PATIENCE}"
    connect = f"import socket; print(socket.create_connection({there}).recv(100).decode())"
    async with trio.open_nursery() as nursery:
        await answer(nursery, pod, OUTBOUND, "sidecar")
        install(pod)
        assert (await pod.run([sys.executable, "-c", connect], uid=SIDECAR)).out == "outside\n"
        assert (await pod.run([sys.executable, "-c", connect], uid=APPLICATION)).out == "sidecar\n"
        nursery.cancel_scope.cancel()


async def test_it_says_what_is_captured_and_what_is_not(pod: Pod) -> None:
    said = install(pod, "--exclude-outbound-ports", "25", "--exclude-outbound-addresses", "fd00::/8")
    assert said == (
        "captured: TCP from outside the pod, IPv4 and IPv6, goes to port 15006\n"
        "captured: TCP to outside the pod, IPv4 and IPv6, goes to port 15001\n"
        "not captured: connections that stay on loopback, UDP, and connections that stood before\n"
        "not captured: connections of UID 1337, which is the sidecar's and nobody else's\n"
        "not captured: connections to own ports 15020\n"
        "not captured: connections to ports elsewhere 25\n"
        "not captured: connections to fd00::/8\n"
    )
    assert "left as it was: TCP over IPv6" in install(pod, "--ip-version", "4")
    assert "left as it was: TCP over IPv4" in install(pod, "--ip-version", "6")


async def test_where_ipv6_fails_ipv4_is_as_before_and_says_so(pod: Pod, tmp_path: Path) -> None:
    broken = tmp_path / "ip6tables-restore"
    broken.write_text("#!/bin/sh\necho out of order >&2\nexit 2\n")
    broken.chmod(0o755)
    failing = ["env", f"PATH={tmp_path}:{os.environ['PATH']}", *REDIRECT]
    await add_foreign_rules(pod)
    before = await rules(pod)
    for _ in ("nothing of ours was there", "other rules of ours were there"):
        result = await pod.run([*failing, "--install", "--sidecar-uid", "7"])
        assert (result.exit, result.out) == (1, "")
        assert result.err == (
            "doorward-sidecar: ip6tables-restore failed: out of order; IPv4 was taken back and is as before\n"
        )
        assert await rules(pod) == before
        install(pod, "--exclude-outbound-ports", "25")
        before = await rules(pod)


async def test_two_at_once_do_not_meet(pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iptables, "LOCK_SECONDS", 0)
    before = await rules(pod)
    with pod.inside(iptables.NAMESPACE.open) as namespace:
        fcntl.flock(namespace, fcntl.LOCK_EX)
        result = redirect(pod, "--install")
        assert result == Result(
            1, "", "doorward-sidecar: another redirect is at work in this network namespace: try again\n"
        )
        assert await rules(pod) == before
    install(pod)


async def test_net_admin_is_the_one_right_that_it_needs(pod: Pod) -> None:
    before = await rules(pod)
    result = await pod.run([*REDIRECT, "--install"], uid=APPLICATION)
    assert (result.exit, result.out) == (1, "")
    assert "it needs the capability NET_ADMIN" in result.err
    assert result.err.count("\n") == 1
    assert await rules(pod) == before
    only = ["setpriv", "--bounding-set=-all,+net_admin", "--inh-caps=-all,+net_admin"]
    assert (await pod.run([*only, *REDIRECT, "--install"])).exit == 0
    assert await rules(pod) != before
