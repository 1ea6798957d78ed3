"""The start of every connection, and the whole of one that has no certificate.

Both sides say Hello; versions must agree. Who has no certificate may then ask for one with a join token, a few times
and for some seconds, and for nothing else; with the certificate it comes back on a new connection.
"""

from importlib.metadata import version

import trio

from control_plane.push.attest import Attestor
from control_plane.push.conversation import Conversation
from control_plane.push.ending import Ending, endings
from control_plane.push.office import Office
from mesh.wire import PROTOCOL_VERSION, CertificateRequest, Hello, Nack, Ping, Pong, Unknown

SOFTWARE = f"doorward {version('doorward')}"
MAX_MESSAGES = 64  # of one visit: an honest visitor needs three


async def greet(conversation: Conversation, *, instance: str, seconds: float) -> Hello:
    """Say Hello and take the peer's. `instance` names this control plane's process. Raises Ending."""
    with trio.move_on_after(seconds), endings():
        await conversation.send(Hello(PROTOCOL_VERSION, SOFTWARE, instance))
        hello = await conversation.receive()
        if hello is None:
            raise Ending("left_early", "the peer left before its Hello")
        if not isinstance(hello, Hello):
            kind = hello.type if isinstance(hello, Unknown) else type(hello).__name__
            raise Ending("protocol", f"{kind} came before Hello", Nack(kind, "hello_expected", "say Hello first"))
        if hello.version != PROTOCOL_VERSION:
            text = f"this control plane speaks version {PROTOCOL_VERSION}, not {hello.version}: run the same release"
            raise Ending("version", text, Nack("Hello", "version", text))
        if not hello.instance:
            raise Ending("protocol", "Hello names no instance", Nack("Hello", "no_instance", "name your instance"))
        return hello
    raise Ending("hello_timeout", f"no Hello within {seconds:g} s")


class Visit:
    """One connection without a certificate."""

    def __init__(self, office: Office, attestor: Attestor, conversation: Conversation, address: str) -> None:
        self._office = office
        self._attestor = attestor
        self._conversation = conversation
        self._address = address

    async def hold(self) -> None:
        """Serve the visitor until it leaves. Raises Ending where it is shown the door."""
        limits = self._office.limits
        with trio.move_on_after(limits.unauthenticated_lifetime), endings():
            await greet(self._conversation, instance=self._office.instance, seconds=limits.hello_timeout)
            await self._serve(limits.unauthenticated_requests)
            return
        raise Ending("visit_timeout", f"no certificate was shown within {limits.unauthenticated_lifetime:g} s")

    async def _serve(self, requests_left: int) -> None:
        for _ in range(MAX_MESSAGES):
            message = await self._conversation.receive()
            if message is None:
                return
            self._office.metrics.messages.labels(type(message).__name__).inc()
            match message:
                case CertificateRequest() if requests_left:
                    requests_left -= 1
                    await self._conversation.send(await self._attestor.answer(message, None, self._address))
                case Ping(number):
                    await self._conversation.send(Pong(number))
                case Unknown():
                    pass
                case CertificateRequest():
                    raise _show_out(message, "too_many_requests", "too many certificate requests: come again later")
                case _:
                    raise _show_out(message, "not_attested", "without a certificate only a CertificateRequest is taken")
        raise Ending("too_many_requests", f"more than {MAX_MESSAGES} messages without a certificate")


def _show_out(message: object, code: str, text: str) -> Ending:
    return Ending(code, text, Nack(type(message).__name__, code, text))
