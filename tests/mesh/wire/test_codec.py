"""Frames and messages: what is said arrives as it was said, and what is no message is refused, and cheaply."""

import hashlib
import struct
import tracemalloc
from typing import Any, get_args

import msgpack
import pytest
from attrs import NOTHING, evolve, fields
from hypothesis import given
from hypothesis import strategies as st

from mesh.wire import (
    MAX_FRAME_TO_CONTROL_PLANE,
    Ack,
    Announce,
    Certificate,
    CertificateRequest,
    Endpoint,
    FrameDecoder,
    FrameTooLarge,
    Hello,
    Listener,
    Message,
    MessageMalformed,
    Nack,
    Ping,
    Pong,
    Service,
    Snapshot,
    Unknown,
    WireError,
    decode,
    encode,
    is_intact,
    snapshot_hash,
)
from mesh.wire.codec import MAX_DEPTH
from tests.support.examples import examples

texts = st.text(max_size=20)
names = st.text(min_size=1, max_size=20)
ports = st.integers(1, 65535)
numbers = st.integers(0, 2**63)
protocols = st.sampled_from(["http", "tcp", "auto"])


def tuples(item: st.SearchStrategy[Any], least: int = 0) -> st.SearchStrategy[tuple[Any, ...]]:
    """Short tuples of `item`."""
    return st.lists(item, min_size=least, max_size=3).map(tuple)


documents = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**31), 2**32) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
listeners = st.builds(Listener, ports, ports, protocols, st.none() | texts)
endpoints = st.builds(Endpoint, names, ports, names, ports, protocols, names)
places = st.tuples(names, ports)
services = st.builds(Service, names, tuples(names, 1), ports, protocols, tuples(places))
policies = st.dictionaries(texts, documents, max_size=3)
snapshots = st.builds(
    Snapshot,
    names,
    numbers,
    names,
    tuples(policies),
    tuples(endpoints),
    tuples(texts),
    tuples(st.binary(max_size=20)),
    tuples(services),
)
messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(Hello, st.integers(1, 9), texts, texts),
    st.builds(CertificateRequest, st.binary(max_size=50), st.none() | texts),
    st.builds(Certificate, tuples(st.binary(max_size=50), 1), tuples(st.binary(max_size=50), 1)),
    st.builds(Announce, tuples(listeners), tuples(texts)),
    snapshots,
    st.builds(Ack, names, numbers),
    st.builds(Nack, texts, texts, texts),
    st.builds(Ping, numbers),
    st.builds(Pong, numbers),
)

SAMPLES: dict[str, dict[str, Any]] = {
    "Hello": {"version": 1, "software": "doorward 0.1", "instance": "i"},
    "CertificateRequest": {"csr": b"csr", "token": None},
    "Certificate": {"chain": [b"leaf"], "roots": [b"root"]},
    "Announce": {
        "listeners": [{"mesh_port": 8443, "port": 8080, "protocol": "http", "address": None}],
        "destinations": ["shop/payments:8080"],
    },
    "Snapshot": {
        "epoch": "e",
        "number": 1,
        "hash": "h",
        "policies": [{"kind": "AllowPolicy"}],
        "endpoints": [
            {
                "workload": "a/b",
                "port": 1,
                "address": "::1",
                "mesh_port": 2,
                "protocol": "tcp",
                "identity": "spiffe://a/b",
            }
        ],
        "bans": ["serial:1"],
        "roots": [b"root"],
        "services": [
            {
                "name": "a/s",
                "addresses": ["10.96.0.1"],
                "port": 80,
                "protocol": "http",
                "backends": [["10.0.0.1", 8080]],
            }
        ],
    },
    "Ack": {"epoch": "e", "number": 0},
    "Nack": {"about": "Announce", "code": "c", "message": "m"},
    "Ping": {"number": 0},
    "Pong": {"number": 0},
}


HEAD = ("epoch", "number", "hash")
"""What of a snapshot its hash leaves out."""


def payload(kind: object, **values: object) -> bytes:
    """A frame's payload, however wrong."""
    return bytes(msgpack.packb({"type": kind, **values}))


def service(**change: object) -> dict[str, Any]:
    """A snapshot's services: one, with these fields instead of its own."""
    return {"services": [{**SAMPLES["Snapshot"]["services"][0], **change}]}


def test_every_message_has_a_sample_here() -> None:
    assert {kind.__name__ for kind in get_args(Message)} == set(SAMPLES)


@given(st.lists(messages, max_size=4), st.data())
@examples(100)
def test_messages_arrive_as_they_were_said_however_the_stream_is_split(
    said: list[Message], data: st.DataObject
) -> None:
    stream = b"".join(map(encode, said))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    decoder = FrameDecoder(MAX_FRAME_TO_CONTROL_PLANE)
    heard: list[object] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        heard += map(decode, decoder.feed(stream[start:end]))
    assert heard == said
    assert decoder.idle


def heard_in_pieces(pieces: list[bytes]) -> list[object]:
    """What comes out of a stream, the first error included, where it ends."""
    decoder, heard = FrameDecoder(64), list[object]()
    try:
        for piece in pieces:
            heard.extend(decode(each) for each in decoder.feed(piece))
    except WireError as error:
        heard.append((type(error), str(error)))
    return heard


frames = messages.map(encode) | st.binary(max_size=80).map(lambda data: struct.pack(">I", len(data)) + data)


@given(st.lists(frames | st.binary(max_size=8), max_size=4).map(b"".join), st.integers(0, 400))
def test_what_is_wrong_is_the_same_however_the_stream_is_split(stream: bytes, cut: int) -> None:
    at_once = heard_in_pieces([stream])
    assert heard_in_pieces([stream[:cut], stream[cut:]]) == at_once
    assert heard_in_pieces([bytes([byte]) for byte in stream]) == at_once


def test_one_byte_at_a_time_is_a_stream_too() -> None:
    decoder = FrameDecoder(100)
    heard = [decode(each) for byte in encode(Ping(1)) + encode(Pong(2)) for each in decoder.feed(bytes([byte]))]
    assert heard == [Ping(1), Pong(2)]


def test_a_half_received_frame_is_not_idle_and_yields_nothing() -> None:
    decoder = FrameDecoder(100)
    frame = encode(Ping(1))
    for end in range(1, len(frame)):
        decoder = FrameDecoder(100)
        assert list(decoder.feed(frame[:end])) == []
        assert not decoder.idle


def test_what_was_fed_stays_until_it_is_asked_for() -> None:
    decoder = FrameDecoder(100)
    decoder.feed(encode(Ping(1)))
    assert [decode(each) for each in decoder.feed(encode(Ping(2)))] == [Ping(1), Ping(2)]


def test_a_frame_over_the_limit_is_refused_by_its_length_alone() -> None:
    decoder = FrameDecoder(10)
    assert len(list(decoder.feed(struct.pack(">I", 10) + b"x" * 10))) == 1
    with pytest.raises(FrameTooLarge, match="a frame of 11 bytes is over the limit of 10"):
        list(decoder.feed(struct.pack(">I", 11)))


@pytest.mark.parametrize("kind", SAMPLES)
def test_a_sample_is_understood_and_fields_of_a_newer_peer_are_ignored(kind: str) -> None:
    understood = decode(payload(kind, **SAMPLES[kind]))
    assert type(understood).__name__ == kind
    assert decode(payload(kind, **SAMPLES[kind], added_later={"x": [1]})) == understood


def test_a_message_type_of_a_newer_peer_is_unknown_and_no_error() -> None:
    assert decode(payload("Report", bytes_in=1)) == Unknown("Report")
    assert decode(payload("R" * 1000)) == Unknown("R" * 80)


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, fields_ in SAMPLES.items() for name in fields_])
def test_a_field_that_is_missing_or_of_another_type_is_named(kind: str, name: str) -> None:
    sample = SAMPLES[kind]
    known = {kind_.__name__: kind_ for kind_ in get_args(Message)}[kind]
    if getattr(fields(known), name).default is NOTHING:
        rest = {key: value for key, value in sample.items() if key != name}
        with pytest.raises(MessageMalformed, match=rf"^{kind}\.{name} is missing$"):
            decode(payload(kind, **rest))
    for wrong in ({}, True, 1.5, [[]], "text" if isinstance(sample[name], bytes) else b"bytes"):
        with pytest.raises(MessageMalformed, match=rf"^{kind}\.{name}(\[0\])?: expected \w+"):
            decode(payload(kind, **{**sample, name: wrong}))


@pytest.mark.parametrize(
    ("kind", "change", "complaint"),
    [
        ("Hello", {"version": 0}, "Hello: 'version' must be >= 1"),
        ("Hello", {"version": "1"}, r"Hello\.version: expected int, got str"),
        ("Hello", {"software": "x" * 513}, "Hello: Length of 'software'"),
        ("CertificateRequest", {"csr": b"x" * (16 * 1024 + 1)}, "Length of 'csr'"),
        ("CertificateRequest", {"token": "x" * (16 * 1024 + 1)}, "Length of 'token'"),
        ("Certificate", {"chain": []}, "Length of 'chain'"),
        ("Certificate", {"chain": [b"x"] * 9}, "Length of 'chain'"),
        ("Certificate", {"roots": "text"}, r"Certificate\.roots: expected list, got str"),
        ("Announce", {"listeners": [{"mesh_port": 1, "port": 0, "protocol": "http"}]}, r"listeners\[0\]: 'port' must"),
        ("Announce", {"listeners": [{"mesh_port": 1, "port": 65536, "protocol": "http"}]}, "'port' must be <= 65535"),
        ("Announce", {"listeners": [{"mesh_port": 1, "port": 1, "protocol": "udp"}]}, "'protocol' must be in"),
        (
            "Announce",
            {"listeners": [{"mesh_port": 1, "protocol": "tcp"}]},
            r"Announce\.listeners\[0\]\.port is missing",
        ),
        ("Announce", {"listeners": [5]}, r"Announce\.listeners\[0\]: expected dict, got int"),
        ("Announce", {"destinations": ["x"] * 4097}, "Length of 'destinations'"),
        ("Announce", {"destinations": ["x" * 521]}, "Length of 'destinations'"),
        ("Announce", {"destinations": ["a", 5]}, r"Announce\.destinations\[1\]: expected str, got int"),
        ("Snapshot", {"number": -1}, "'number' must be >= 0"),
        ("Snapshot", {"epoch": ""}, "Length of 'epoch'"),
        ("Snapshot", {"services": [5]}, r"Snapshot\.services\[0\]: expected dict, got int"),
        ("Snapshot", service(addresses=[]), "Length of 'addresses'"),
        ("Snapshot", service(addresses=["1" * 65]), "Length of 'addresses'"),
        ("Snapshot", service(port=0), "'port' must be >= 1"),
        ("Snapshot", service(protocol="udp"), "'protocol' must be in"),
        ("Snapshot", service(backends=[["10.0.0.1", 0]]), "backends: '10.0.0.1', port 0 is no place"),
        ("Snapshot", service(backends=[["10.0.0.1", True]]), r"backends\[0\]: expected a list of address and port"),
        ("Snapshot", service(backends=[["10.0.0.1"]]), r"backends\[0\]: expected a list of address and port"),
        ("Ping", {"number": True}, r"Ping\.number: expected int, got bool"),
        ("Nack", {"message": "x" * 8193}, "Length of 'message'"),
    ],
)
def test_a_value_out_of_bounds_is_refused(kind: str, change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(MessageMalformed, match=complaint):
        decode(payload(kind, **{**SAMPLES[kind], **change}))


def test_several_faults_are_listed_and_many_are_cut_short() -> None:
    with pytest.raises(MessageMalformed) as caught:
        decode(payload("Announce", listeners=[1, 2], destinations=[3]))
    assert str(caught.value).count("expected") == 3
    with pytest.raises(MessageMalformed) as caught:
        decode(payload("Announce", listeners=list(range(256)), destinations=[*range(4000)]))
    assert str(caught.value).count("expected") == 10
    assert len(str(caught.value)) < 1000


def test_a_complaint_never_repeats_a_token() -> None:
    with pytest.raises(MessageMalformed) as caught:
        decode(payload("CertificateRequest", csr="no bytes", token=b"dwt_secret"))
    assert "secret" not in str(caught.value)


def nested(depth: int) -> bytes:
    """A message that is `depth` deep."""
    value: object = None
    for _ in range(depth - 3):
        value = [value]
    return payload("Snapshot", **{**SAMPLES["Snapshot"], "policies": [{"x": value}]})


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        (b"", "not msgpack"),
        (b"\xc1", "not msgpack: FormatError"),
        (b"GET / HTTP/1.1\r\n\r\n", "not msgpack"),
        (b"\x80\x80", "extra data"),
        (payload("Ping", number=1)[:-1], "not msgpack"),
        (b"\x81\xa4type\xa2\xff\xff", "utf-8"),
        (b"\x81\x01\x02", "int is not allowed for map key"),
        (b"\xc0", "a message is a map"),
        (b"\x91\x01", "a message is a map"),
        (b"\x80", "a message is a map"),
        (b"\x81\xa4type\x01", "a message is a map"),
        (b"\x82\xa4type\xa4Ping\xa6number" + b"\xd6\xff\x00\x00\x00\x00", "exceeds max_ext_len"),
        (b"\x82\xa4type\xa4Ping\xa6number" + b"\xc7\x00\x05", "extension type 5"),
        (b"\x82\xa4type\xa4Ping\xa6number" + b"\xc7\x00\xff", "not msgpack"),
        (b"\xdf\xff\xff\xff\xff", "not msgpack"),
        (payload("Announce", listeners=[], destinations=[0] * 200_001), "exceeds max_array_len"),
        (b"\x91" * 2000 + b"\xc0", "not msgpack: StackError"),
        (nested(MAX_DEPTH + 1), "nested more than 16 deep"),
    ],
)
def test_a_payload_that_is_no_message_is_refused(bad: bytes, complaint: str) -> None:
    with pytest.raises(MessageMalformed, match=complaint):
        decode(bad)


def test_the_deepest_message_that_is_allowed_is_understood() -> None:
    assert isinstance(decode(nested(MAX_DEPTH)), Snapshot)


def test_promises_of_long_lists_are_not_believed() -> None:
    """Each five bytes promise a list of 199,999; made one inside the other they would be 1.6 GB of lists."""
    promises = b"\xdd\x00\x03\x0d\x3f" * 1000
    tracemalloc.start()
    try:
        with pytest.raises(MessageMalformed):
            decode(promises)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000


@given(st.binary(max_size=200))
@examples(150)
def test_any_bytes_are_a_message_or_are_refused(data: bytes) -> None:
    try:
        decode(data)
    except WireError as error:
        complaint = str(error)
    else:
        return
    assert complaint


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | texts | st.binary(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts | st.binary(max_size=5), inner, max_size=4),
    max_leaves=10,
)


@given(st.sampled_from(sorted(SAMPLES)), st.data())
@examples(150)
def test_any_value_in_any_field_is_taken_as_it_is_or_refused(kind: str, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(SAMPLES[kind])))
    value = data.draw(plain)
    try:
        message = decode(payload(kind, **{**SAMPLES[kind], name: value}))
    except MessageMalformed:
        return
    said = msgpack.unpackb(encode(message)[4:])
    given_ = msgpack.unpackb(msgpack.packb(value))
    assert _without_defaults(said[name]) == _without_defaults(given_), "no value was turned into another"


def _without_defaults(value: object) -> object:
    if isinstance(value, list):
        return [_without_defaults(each) for each in value]
    if isinstance(value, dict):
        return {key: _without_defaults(each) for key, each in value.items() if (key, each) != ("address", None)}
    return value


@given(snapshots, names, numbers)
@examples(100)
def test_the_hash_of_a_snapshot_says_what_it_says_not_when_it_was_said(
    snapshot: Snapshot, epoch: str, number: int
) -> None:
    elsewhere = evolve(snapshot, epoch=epoch, number=number, hash="other")
    assert snapshot_hash(elsewhere) == snapshot_hash(snapshot)
    understood = decode(encode(snapshot)[4:])
    assert isinstance(understood, Snapshot)
    assert snapshot_hash(understood) == snapshot_hash(snapshot)
    assert snapshot_hash(evolve(snapshot, bans=(*snapshot.bans, "more"))) != snapshot_hash(snapshot)


json_names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)


def maps_in(plain: object) -> list[dict[str, Any]]:
    """Every map in a plain value, itself included."""
    if isinstance(plain, list):
        return [found for each in plain for found in maps_in(each)]
    if isinstance(plain, dict):
        return [plain, *(found for each in plain.values() for found in maps_in(each))]
    return []


def sent_by_a_newer_peer(snapshot: Snapshot, added: dict[str, Any], draw: st.DataObject) -> dict[str, Any]:
    """A snapshot whose sender knows more fields than we do, in the snapshot itself and in what it holds."""
    content = msgpack.unpackb(encode(snapshot)[4:])
    head = {key: content.pop(key) for key in ("type", "epoch", "number", "hash")}
    content = {**{key: value for key, value in added.items() if key not in head}, **content}
    for each in content["endpoints"] + content["services"]:
        each |= {key: value for key, value in added.items() if key not in each}
    in_what_order = draw.draw(st.permutations(list(content)))
    content = {key: content[key] for key in in_what_order}
    return {**head, **content, "hash": hashlib.sha256(msgpack.packb(content)).hexdigest()}


@given(snapshots, st.dictionaries(json_names, documents, max_size=3), st.data())
@examples(100)
def test_what_a_newer_peer_added_is_part_of_what_its_hash_says(
    snapshot: Snapshot, added: dict[str, Any], data: st.DataObject
) -> None:
    sent = sent_by_a_newer_peer(snapshot, {**added, "received_hash": "mine"}, data)
    understood = decode(msgpack.packb(sent))
    assert isinstance(understood, Snapshot)
    assert is_intact(understood)
    assert evolve(understood, hash="-") == evolve(snapshot, hash="-"), "what is not known changes nothing"
    changed = data.draw(st.sampled_from([each for each in maps_in(sent) if set(each) - {"type"} - set(HEAD)]))
    key = data.draw(st.sampled_from(sorted(set(changed) - {"type"} - set(HEAD))))
    changed[key] = data.draw(documents.filter(lambda value: msgpack.packb(value) != msgpack.packb(changed[key])))
    try:
        tampered = decode(msgpack.packb(sent))
    except MessageMalformed:
        return
    assert isinstance(tampered, Snapshot)
    assert not is_intact(tampered)


def test_a_snapshot_of_an_older_peer_is_intact() -> None:
    """It knows of no services; what it leaves out has its default here, and is no part of its hash."""
    content = {key: value for key, value in SAMPLES["Snapshot"].items() if key not in {*HEAD, "services"}}
    wanted = hashlib.sha256(msgpack.packb(content)).hexdigest()
    understood = decode(payload("Snapshot", epoch="e", number=1, hash=wanted, **content))
    assert isinstance(understood, Snapshot)
    assert (is_intact(understood), understood.services) == (True, ())


def test_what_was_changed_here_is_not_what_was_received() -> None:
    snapshot = decode(payload("Snapshot", **SAMPLES["Snapshot"]))
    assert isinstance(snapshot, Snapshot)
    right = decode(encode(evolve(snapshot, hash=snapshot_hash(snapshot)))[4:])
    assert isinstance(right, Snapshot)
    assert is_intact(right)
    assert not is_intact(evolve(right, bans=()))
