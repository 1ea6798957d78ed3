"""The messages that sidecar and control plane exchange, in the order in which a link uses them.

    sidecar -> control plane    Hello, CertificateRequest, Announce, Ack, Nack, Ping, Pong
    control plane -> sidecar    Hello, Certificate, Snapshot, Nack, Ping, Pong

Before it has a certificate a sidecar may send only Hello and CertificateRequest with a token. Fields that a newer
peer added are ignored; a message type that it added becomes Unknown, which the receiver skips and logs.
"""

from collections.abc import Callable
from typing import Any

from attrs import Attribute, field, frozen
from attrs.validators import deep_iterable, ge, in_, le, max_len, min_len, optional

from certs.spiffe import MAX_ID_BYTES

PROTOCOL_VERSION = 1
ALPN = b"doorward-cp/1"

PROTOCOLS = ("http", "tcp", "auto")
"""What an application port can be declared to speak."""

EVERY_DESTINATION = "*"
"""As a destination: every confirmed endpoint of the mesh, for a sidecar that looks destinations up by address."""

MAX_ADDRESS = 64  # characters of an IP address, with a zone

_port = [ge(1), le(65535)]
_text: Callable[..., None] = max_len(512)
_name: list[Callable[..., None]] = [min_len(1), max_len(512)]


@frozen
class Hello:
    """First on every link, from both sides. `instance` tells one process of a workload from another."""

    version: int = field(validator=ge(1))
    software: str = field(validator=_text)
    instance: str = field(validator=_text)


@frozen
class CertificateRequest:
    """Asks for a certificate of the attested identity. `csr` is DER; without `token` the link's certificate attests.

    `expected` is the identity that the sidecar was told to have. It grants nothing: where another one is attested,
    the request is refused before the token is spent on it.
    """

    csr: bytes = field(validator=max_len(16 * 1024))
    token: str | None = field(default=None, validator=optional(max_len(16 * 1024)))
    expected: str | None = field(default=None, validator=optional(max_len(MAX_ID_BYTES)))


@frozen
class Certificate:
    """The issued chain, DER, leaf first and without the root, and the roots (DER) of every trust domain to trust."""

    chain: tuple[bytes, ...] = field(validator=[min_len(1), max_len(8)])
    roots: tuple[bytes, ...] = field(validator=[min_len(1), max_len(256)])


@frozen
class Listener:
    """One application port that a sidecar guards. `address` None means: the address that this link comes from."""

    mesh_port: int = field(validator=_port)
    port: int = field(validator=_port)
    protocol: str = field(validator=in_(PROTOCOLS))
    address: str | None = field(default=None, validator=optional(max_len(MAX_ADDRESS)))


@frozen
class Announce:
    """What this sidecar offers and what it wants to reach.

    Destinations are written `<namespace>/<workload>:<port>`, or EVERY_DESTINATION.
    """

    listeners: tuple[Listener, ...] = field(validator=max_len(256))
    destinations: tuple[str, ...] = field(validator=[max_len(4096), deep_iterable(max_len(520))])


@frozen
class Endpoint:
    """One place where a workload's port can be reached, and the identity that must answer there (law 5).

    `confirmed` says that the address was shown to be that identity's: only then may it be found by address (law 4).
    """

    workload: str = field(validator=_name)
    port: int = field(validator=_port)
    address: str = field(validator=_name)
    mesh_port: int = field(validator=_port)
    protocol: str = field(validator=in_(PROTOCOLS))
    identity: str = field(validator=_name)
    confirmed: bool = False


def _each_a_place(_: object, attribute: "Attribute[Any]", places: tuple[tuple[str, int], ...]) -> None:
    for address, port in places:
        if not (1 <= len(address) <= MAX_ADDRESS and 1 <= port <= 65535):
            raise ValueError(f"{attribute.name}: {address[:80]!r}, port {port} is no place")


@frozen
class Service:
    """One port of a virtual address of the platform: it belongs to no workload, and leads to several places.

    `name` is `<namespace>/<name>`. `backends` are addresses with the application's port; who must answer at one is said
    by the confirmed Endpoint of that place, never here (law 5). Without backends nobody is ready to be called.
    """

    name: str = field(validator=_name)
    addresses: tuple[str, ...] = field(
        validator=[min_len(1), max_len(16), deep_iterable([min_len(1), max_len(MAX_ADDRESS)])]
    )
    port: int = field(validator=_port)
    protocol: str = field(validator=in_(PROTOCOLS))
    backends: tuple[tuple[str, int], ...] = field(validator=[max_len(100_000), _each_a_place])


@frozen
class Snapshot:
    """Everything that one sidecar is to enforce, whole. Within an `epoch` a lower `number` is refused.

    `policies` are documents as in a policy file; `bans` are SPIFFE IDs or certificate serials (`serial:<decimal>`);
    `roots` are DER. `hash` is `mesh.wire.snapshot_hash` of the content.

    `received_hash` is the same of what really came over the wire, fields included that only a newer peer knows; None
    where the snapshot was made here.
    """

    epoch: str = field(validator=_name)
    number: int = field(validator=ge(0))
    hash: str = field(validator=_name)
    policies: tuple[dict[str, Any], ...] = field(validator=max_len(100_000))
    endpoints: tuple[Endpoint, ...] = field(validator=max_len(100_000))
    bans: tuple[str, ...] = field(validator=max_len(100_000))
    roots: tuple[bytes, ...] = field(validator=max_len(256))
    services: tuple[Service, ...] = field(default=(), validator=max_len(100_000))
    received_hash: str | None = field(init=False, default=None, eq=False, repr=False)


@frozen
class Ack:
    """This snapshot is enforced now, on new and on live connections."""

    epoch: str = field(validator=_name)
    number: int = field(validator=ge(0))


@frozen
class Nack:
    """What `about` (a message type) named was refused: `code` for programs, `message` for people."""

    about: str = field(validator=_text)
    code: str = field(validator=_text)
    message: str = field(validator=max_len(8192))


@frozen
class Ping:
    """Asks for a Pong with the same number: the link is alive."""

    number: int = field(validator=ge(0))


@frozen
class Pong:
    """Answers a Ping."""

    number: int = field(validator=ge(0))


@frozen
class Unknown:
    """A message type that this version does not know."""

    type: str


Message = Hello | CertificateRequest | Certificate | Announce | Snapshot | Ack | Nack | Ping | Pong
