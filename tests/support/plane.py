"""A real push server on a free port of loopback, and the sidecar's end of links to it, over real TLS."""

from datetime import UTC, datetime, timedelta

import trio
from attrs import define, field
from cryptography import x509

from certs.bundle import TrustBundle
from certs.csr import build_csr
from certs.keys import new_key
from certs.spiffe import SpiffeId, TrustDomain, WorkloadName
from certs.svid import Svid
from certs.tls import client_context
from control_plane.push.conversation import Conversation
from control_plane.push.office import Office, in_thread
from control_plane.store.records import Document
from mesh.wire import (
    ALPN,
    MAX_FRAME_TO_SIDECAR,
    PROTOCOL_VERSION,
    Ack,
    Announce,
    Certificate,
    CertificateRequest,
    Hello,
    Message,
    Nack,
    Snapshot,
    Unknown,
)
from tests.support.patience import PATIENCE
from tests.support.pki import Pki
from transport import PlainStream, TlsStream, dial

DOMAIN = TrustDomain("cluster.local")


@define
class Clock:
    """The wall clock of one control plane, which a test can move."""

    offset: timedelta = timedelta(0)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.offset


@define(eq=False)
class Caller:
    """The sidecar's end of one link."""

    stream: TlsStream
    conversation: Conversation = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.conversation = Conversation(self.stream, limit=MAX_FRAME_TO_SIDECAR, write_timeout=PATIENCE)

    async def say(self, message: Message) -> None:
        await self.conversation.send(message)

    async def hear(self) -> Message | Unknown | None:
        """The next message; None where the control plane ended the link."""
        with trio.fail_after(PATIENCE):
            try:
                return await self.conversation.receive()
            except trio.BrokenResourceError:
                return None

    async def ask(self, message: Message) -> Message | Unknown | None:
        await self.say(message)
        return await self.hear()

    async def greet(self, instance: str = "one", version: int = PROTOCOL_VERSION) -> Message | Unknown | None:
        await self.say(Hello(version, "sidecar under test", instance))
        answer = await self.hear()
        assert isinstance(answer, Hello), answer
        return answer

    async def snapshot(self) -> Snapshot:
        message = await self.hear()
        assert isinstance(message, Snapshot), message
        return message

    async def enforce(self) -> Snapshot:
        """Take a snapshot and acknowledge it."""
        snapshot = await self.snapshot()
        await self.say(Ack(snapshot.epoch, snapshot.number))
        return snapshot

    async def refusal(self) -> Nack:
        message = await self.hear()
        assert isinstance(message, Nack), message
        return message

    async def ended(self) -> bool:
        """Whether the control plane ends the link, whatever it says before."""
        while await self.hear() is not None:
            pass
        return True


@define(eq=False)
class Plane:
    """A push server with everything it stands on."""

    office: Office
    clock: Clock
    port: int
    host: str = "127.0.0.1"
    streams: list[PlainStream] = field(factory=list)

    @property
    def pki(self) -> Pki:
        """Forges certificates with the control plane's own CA."""
        pki = Pki(DOMAIN, now=self.clock().replace(microsecond=0))
        object.__setattr__(pki, "intermediate", self.office.authority.issuer)
        return pki

    @property
    def bundle(self) -> TrustBundle:
        return self.office.authority.bundle

    async def dial(self) -> PlainStream:
        """A TCP connection, closed at the end of the test."""
        self.streams.append(await dial(self.host, self.port, deadline=PATIENCE))
        return self.streams[-1]

    async def connect(
        self, svid: Svid | None = None, *, alpn: bytes = ALPN, bundle: TrustBundle | None = None
    ) -> Caller:
        """A link after its TLS handshake, before its Hello."""
        plain = await self.dial()
        stream = TlsStream(plain.socket, client_context(svid, bundle or self.bundle, [alpn]), server_side=False)
        with trio.fail_after(PATIENCE):
            await stream.do_handshake()
        return Caller(stream)

    async def link(self, svid: Svid | None = None, instance: str = "one") -> Caller:
        """A link after both Hellos."""
        caller = await self.connect(svid)
        await caller.greet(instance)
        return caller

    async def sidecar(
        self, workload: str = "shop/checkout", announce: Announce | None = None, instance: str = "one"
    ) -> Caller:
        """A link of an attested workload that has announced itself; its first snapshot is on the way."""
        caller = await self.link(await self.svid(workload), instance)
        await caller.say(announce or Announce((), ()))
        return caller

    async def token(self, workload: str = "shop/checkout", lifetime: timedelta = timedelta(minutes=10)) -> str:
        name = WorkloadName.parse(workload)
        create = self.office.store.create_token
        token, _ = await in_thread(lambda: create(name, lifetime=lifetime, uses=1, author="test"))
        return token

    async def svid(self, workload: str = "shop/checkout") -> Svid:
        """An SVID as attestation gives it: known to the store."""
        token, key = await self.token(workload), new_key()
        caller = await self.link()
        answer = await caller.ask(CertificateRequest(build_csr(key), token))
        assert isinstance(answer, Certificate), answer
        await caller.stream.aclose()
        return Svid.build(key, answer.chain)

    def svid_for(self, identity: SpiffeId | str, lifetime: timedelta | None = None) -> Svid:
        """An SVID straight from the CA, unknown to the store."""
        key = new_key()
        identity = SpiffeId.parse(identity) if isinstance(identity, str) else identity
        return Svid(key, self.office.authority.issue(key.public_key(), identity, lifetime=lifetime))

    async def apply(self, *put: Document, delete: tuple[tuple[str, str, str], ...] = ()) -> int:
        """Change the policies as the admin API does; the revision's number. It hangs on the board then."""
        change = self.office.store.change_policies
        revision = await in_thread(lambda: change(put, delete, author="test", message=""))
        self.office.advance.announce()
        await self.until(lambda: self.office.board.picture.policy_number >= revision.number)
        return revision.number

    async def ban(self, subject: str) -> None:
        await in_thread(lambda: self.office.store.ban(subject, reason="test", author="test"))
        self.office.advance.announce()

    def begin_minute(self) -> None:
        """Move the clock to the next full minute: what is allowed so often in one is counted anew with the next."""
        now = self.clock()
        self.clock.offset += timedelta(seconds=60 - now.second, microseconds=-now.microsecond)

    def count(self, name: str, **labels: str) -> float:
        """A metric's value, without the common prefix; 0 where it was never counted."""
        return self.office.metrics.registry.get_sample_value(f"doorward_control_plane_{name}", labels) or 0.0

    def refused(self) -> float:
        """How many connections were refused, for whatever reason."""
        collected = self.office.metrics.links_refused.collect()
        return sum(sample.value for each in collected for sample in each.samples if sample.name.endswith("_total"))

    async def until(self, true: object) -> None:
        """Wait until a condition holds."""
        assert callable(true)
        with trio.fail_after(PATIENCE):
            while not true():
                await trio.sleep(0.005)


def names_of(chain: tuple[bytes, ...]) -> list[str]:
    """The URI SANs of a chain's leaf."""
    leaf = x509.load_der_x509_certificate(chain[0])
    san = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return san.get_values_for_type(x509.UniformResourceIdentifier)


def allow(name: str = "checkout-calls-payments", to: str = "payments", caller: str = "checkout") -> Document:
    """An allow policy of the namespace shop."""
    return {
        "apiVersion": "doorward.dev/v1",
        "kind": "AllowPolicy",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"mode": "enforce", "to": {"workload": to, "ports": [8080]}, "from": [{"workload": caller}]},
    }
