"""The transparent halves of laws 4, 5 and 7, as far as they need no redirection; tests/namespaces has the rest."""

from collections.abc import Awaitable, Callable
from ipaddress import ip_network

import pytest
import trio
from attrs import evolve

from mesh.policy import Reason
from sidecar.destination import find_destination
from sidecar.proxy import Proxy
from sidecar.refused import Refused
from sidecar.settings import Address
from sidecar.transparent import serve_transparent_inbound, serve_transparent_outbound
from tests.laws.conftest import eventually, policy, said
from tests.support.doors import Node, endpoint
from tests.support.patience import PATIENCE
from tests.support.pki import Pki
from transport import dial


def transparent(pki: Pki, **content: object) -> Node:
    """A sidecar in transparent mode on free ports, allowed everything."""
    node = Node.make(pki, "shop/payments", policies=[policy(8080)], **content)
    settings = evolve(node.proxy.settings, transparent=True, transparent_inbound_port=0, transparent_outbound_port=0)
    return evolve(node, proxy=evolve(node.proxy, settings=settings))


def test_law_04_an_address_that_was_not_confirmed_is_not_found(pki: Pki) -> None:
    unsure = evolve(endpoint(pki, "shop/stock", 8080), address="10.0.0.7")
    node = transparent(pki, endpoints=[unsure])
    assert node.proxy.mesh.view is not None
    shut = evolve(node.proxy.settings, egress="registry-only")
    with pytest.raises(Refused) as refused:
        find_destination(Address("10.0.0.7", 8080), node.proxy.mesh.view, shut)
    assert refused.value.reason is Reason.EGRESS_REFUSED
    node.learn(endpoints=[evolve(unsure, confirmed=True)])
    found = find_destination(Address("10.0.0.7", 8080), node.proxy.mesh.view, shut)
    assert found is not None
    assert str(found.workload) == "shop/stock"


def test_law_05_no_address_of_the_mesh_is_called_in_plaintext(pki: Pki) -> None:
    known = evolve(endpoint(pki, "shop/stock", 8080), address="10.0.0.7", confirmed=True)
    node = transparent(pki, endpoints=[known])
    view, settings = node.proxy.mesh.view, evolve(node.proxy.settings, mesh_cidrs=(ip_network("10.1.0.0/16"),))
    assert view is not None
    assert find_destination(Address("10.0.0.7", 8080), view, settings) is not None, "known: over mTLS"
    for inside in (Address("10.0.0.7", 22), Address("10.1.0.1", 8080)):
        with pytest.raises(Refused):
            find_destination(inside, view, settings)
    assert find_destination(Address("10.2.0.1", 8080), view, settings) is None, "and what is outside may be"


@pytest.mark.parametrize("serve", [serve_transparent_inbound, serve_transparent_outbound])
async def test_law_07_what_was_not_redirected_goes_nowhere(
    pki: Pki, nursery: trio.Nursery, serve: Callable[[Proxy], Awaitable[None]]
) -> None:
    node = transparent(pki)
    await nursery.start(serve, node.proxy)
    for listener in node.proxy.listening:
        host = "::1" if ":" in listener.host else "127.0.0.1"
        caller = await dial(host, listener.port, deadline=PATIENCE)
        assert await said(caller, b"GET / HTTP/1.1\r\n\r\n") in (b"", b"<reset>")
        caller.abort()
    await eventually(lambda: len(node.written) == 2)  # IPv4 and IPv6
    assert {each.reason for each in node.written} == {Reason.NO_ORIGINAL_DESTINATION}
    nursery.cancel_scope.cancel()
