"""One verified connection to the control plane, on which whole messages go both ways.

    ControlPlane.connect()   dial -> TLS -> ALPN -> identity -> Channel; nothing is sent before all of it held (law 1)
    Channel                  send(message) and receive() over any trio stream

Foreign errors end here: what goes wrong is one LinkFailed, whose `code` is for metrics and whose text says what to do.
"""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Final

import trio
from attrs import frozen

from certs.bundle import TrustBundle
from certs.errors import BundleMalformed, CertificateRefused, CertsError
from certs.spiffe import TrustDomain
from certs.svid import Svid
from certs.tls import agreed_alpn, client_context, handshake_refusal, verified_peer
from mesh.wire import ALPN, MAX_FRAME_TO_SIDECAR, FrameDecoder, Message, Unknown, WireError, decode, encode
from sidecar.settings import Address
from transport import ConnectFailed, Dialled, TlsFailed, TlsStream, dial

MAX_BUNDLE_BYTES: Final = 1024 * 1024  # hundreds of roots
IN_THREAD_BYTES: Final = 64 * 1024  # decoding a larger snapshot would hold the loop (law 31)


class LinkFailed(Exception):
    """The control link could not be made, or ended. `code` is a short name of ours; the text says what to do."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Channel:
    """Messages over one stream. Tasks may send at the same time; one receives.

    `trusted` is the bundle that vouched for the other side. `heard` is the trio time of its last bytes.
    """

    def __init__(self, stream: trio.abc.Stream, trusted: TrustBundle) -> None:
        self.trusted = trusted
        self.heard = trio.current_time()
        self._stream = stream
        self._frames = FrameDecoder(MAX_FRAME_TO_SIDECAR)
        self._received: list[bytes] = []
        self._turn = trio.Lock()

    async def send(self, message: Message, timeout: float) -> None:
        """Send one message within `timeout` seconds. Raises LinkFailed."""
        with trio.move_on_after(timeout):
            async with self._turn:
                try:
                    await self._stream.send_all(encode(message))
                except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                    raise LinkFailed("lost", f"the control plane closed the link: {error}") from None
                return
        raise LinkFailed("silent", f"the control plane took no message for {timeout:g} s")

    async def receive(self) -> Message | Unknown:
        """The next message, however long it takes. Raises LinkFailed: the link ended, or what came is no message."""
        try:
            while not self._received:
                data = await self._stream.receive_some()
                if not data:
                    raise LinkFailed("closed", "the control plane closed the link")
                self.heard = trio.current_time()
                self._received = list(self._frames.feed(bytes(data)))
            payload = self._received.pop(0)
            if len(payload) > IN_THREAD_BYTES:
                return await trio.to_thread.run_sync(decode, payload)
            return decode(payload)
        except WireError as error:
            raise LinkFailed("malformed", f"the control plane sent what is no message: {error}") from None
        except TlsFailed as error:
            # TLS 1.3: a client learns at its first read that the server refused its certificate.
            raise LinkFailed("refused", f"the control plane ended the link by TLS: {error.reason}") from None
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise LinkFailed("lost", f"the link to the control plane broke: {error}") from None

    async def aclose(self) -> None:
        """Close the stream under it."""
        await self._stream.aclose()


@frozen
class ControlPlane:
    """Where the control plane is, and how to know that it is it. `timeout` (seconds) bounds each step; `dialled` is
    told of each connection."""

    address: Address
    bundle: Path
    trust_domain: TrustDomain
    timeout: float
    now: Callable[[], datetime]
    dialled: Dialled | None = None

    async def connect(self, svid: Svid | None, learnt: TrustBundle | None) -> Channel:
        """A channel to the verified control plane, showing `svid` where there is one. Raises LinkFailed.

        Roots that an earlier verified link brought (`learnt`) count beside those of the file, so that a root can be
        rotated without writing the file anew at once.
        """
        trusted = await self._trusted(learnt)
        stream = await self._dial(svid, trusted)
        try:
            self._verify(stream, trusted)
        except BaseException:
            stream.abort()
            raise
        return Channel(stream, trusted)

    async def _trusted(self, learnt: TrustBundle | None) -> TrustBundle:
        try:
            raw = await trio.to_thread.run_sync(self._read, abandon_on_cancel=True)
            pinned = TrustBundle.from_pem(raw)
        except OSError as error:
            problem = f"cannot read the bundle {self.bundle}: {error.strerror}"
        except BundleMalformed as error:
            problem = f"the bundle {self.bundle} cannot be used: {error}"
        else:
            return TrustBundle((*pinned.all_roots, *learnt.all_roots)) if learnt else pinned
        raise LinkFailed("bundle_unusable", f"{problem}; write there what `doorward bundle show` prints")

    def _read(self) -> bytes:
        with self.bundle.open("rb") as file:
            return file.read(MAX_BUNDLE_BYTES)

    async def _dial(self, svid: Svid | None, trusted: TrustBundle) -> TlsStream:
        try:
            host, port = self.address.host, self.address.port
            plain = await dial(host, port, deadline=self.timeout, dialled=self.dialled)
        except ConnectFailed as error:
            raise LinkFailed("unreachable", f"cannot reach the control plane: {error}") from None
        stream = TlsStream(plain.socket, client_context(svid, trusted, [ALPN]), server_side=False)
        try:
            with trio.fail_after(self.timeout):
                await stream.do_handshake()
        except BaseException as error:
            failure = self._translated(error, stream)
            stream.abort()
            if failure is None:
                raise
            raise failure from None
        return stream

    def _translated(self, error: BaseException, stream: TlsStream) -> LinkFailed | None:
        if isinstance(error, trio.TooSlowError):
            return LinkFailed("silent", f"{self.address} did not finish the TLS handshake in {self.timeout:g} s")
        if not isinstance(error, trio.BrokenResourceError):
            return None
        if refusal := handshake_refusal(stream.connection):
            return self._refused(refusal)
        return LinkFailed(
            "tls_failed", f"the TLS handshake with {self.address} failed: {error}; is it the control plane's port?"
        )

    def _refused(self, refusal: CertificateRefused) -> LinkFailed:
        return LinkFailed(
            refusal.code,
            f"{self.address} is not the control plane of {self.trust_domain} by the bundle {self.bundle}: {refusal}; "
            "write there what `doorward bundle show` prints, and check the address and both clocks",
        )

    def _verify(self, stream: TlsStream, trusted: TrustBundle) -> None:
        """Law 1 and law 9: who is it, and does it speak our protocol. Raises LinkFailed."""
        try:
            peer = verified_peer(stream.connection, trusted, self.now())
        except CertificateRefused as refusal:
            raise self._refused(refusal) from None
        except CertsError as error:
            raise LinkFailed("tls_failed", f"{self.address}: {error}") from None
        expected = self.trust_domain.control_plane()
        if peer.id != expected:
            raise LinkFailed(
                "wrong_control_plane",
                f"{self.address} is {peer.id}, not {expected}: check --control-plane and --trust-domain",
            )
        if agreed_alpn(stream.connection) != ALPN:
            raise LinkFailed(
                "alpn_mismatch", f"{self.address} does not speak {ALPN.decode()}: check its port and version"
            )
