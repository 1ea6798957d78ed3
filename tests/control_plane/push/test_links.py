"""A status is true: it counts what was sent and acknowledged on the very link, and each process once."""

from datetime import UTC, datetime, timedelta

import pytest

from certs.spiffe import SpiffeId
from certs.verify import Peer
from control_plane.push.links import MAX_UNACKNOWLEDGED, Link, Links
from mesh.wire import Ack, Nack, Snapshot

NOW = datetime(2026, 11, 1, tzinfo=UTC)


def link(instance: str = "one", workload: str = "checkout") -> Link:
    identity = SpiffeId.parse(f"spiffe://cluster.local/ns/shop/sa/{workload}")
    peer = Peer(id=identity, serial=7, root="root", not_before=NOW, not_after=NOW + timedelta(hours=1))
    return Link(peer=peer, instance=instance, address="10.0.0.1", version="doorward 1", connected_since=NOW)


def snapshot(number: int, epoch: str = "epoch") -> Snapshot:
    return Snapshot(epoch, number, f"hash {number}", (), (), (), ())


def test_an_acknowledgement_tells_when_its_snapshot_was_sent() -> None:
    one = link()
    one.was_sent(snapshot(1), at=10.0)
    one.was_sent(snapshot(2), at=20.0)
    assert one.acknowledge(Ack("epoch", 2)) == 20.0
    assert (one.acknowledged, one.epoch) == (2, "epoch")


@pytest.mark.parametrize("ack", [Ack("epoch", 2), Ack("other", 1), Ack("epoch", 0)])
def test_an_acknowledgement_of_what_was_not_sent_changes_nothing(ack: Ack) -> None:
    one = link()
    one.was_sent(snapshot(1), at=10.0)
    assert one.acknowledge(ack) is None
    assert one.acknowledged is None


def test_an_acknowledgement_cannot_go_back() -> None:
    one = link()
    for number in (1, 2):
        one.was_sent(snapshot(number), at=float(number))
        one.acknowledge(Ack("epoch", number))
    assert one.acknowledge(Ack("epoch", 1)) is None
    assert one.acknowledged == 2


def test_a_nack_stands_until_the_next_acknowledgement() -> None:
    one = link()
    one.last_nack = nack = Nack("Snapshot", "faults", "spec.from")
    assert one.status().last_nack == nack
    one.was_sent(snapshot(1), at=0.0)
    one.acknowledge(Ack("epoch", 1))
    assert one.status().last_nack is None


def test_what_is_never_acknowledged_is_bounded() -> None:
    one = link()
    for number in range(MAX_UNACKNOWLEDGED + 1):
        one.was_sent(snapshot(number), at=0.0)
    assert one.acknowledge(Ack("epoch", 0)) is None
    assert one.acknowledge(Ack("epoch", 1)) is not None


def test_an_instance_is_counted_once_and_its_newer_link_stays() -> None:
    links, first, second = Links(), link(), link()
    links.add(first)
    links.add(second)
    assert (bool(first.ended_because), bool(second.ended_because)) == (True, False)
    links.remove(first)
    assert links.live() == (second,)
    links.remove(second)
    assert links.status() == ()


def test_one_identity_cannot_take_the_place_of_another() -> None:
    links, checkout, payments = Links(), link("one", "checkout"), link("one", "payments")
    links.add(checkout)
    links.add(payments)
    assert not checkout.ended_because
    assert [status.identity.rpartition("/")[2] for status in links.status()] == ["checkout", "payments"]
