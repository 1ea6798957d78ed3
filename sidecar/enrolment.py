"""How this process comes by its certificate: a key in memory, a token read anew, an answer that is checked.

    Tokens       the token that attests, from a file or standard input
    Enrolment    one key and its signing request, kept until a certificate for it has come

The key of a request that was sent stays until it is answered: the token is bound to it, so that a request whose answer
got lost can be repeated (law 8). Every certificate gets a key of its own, and none is ever written to a disk.
"""

import os
import random
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import trio
from cryptography.hazmat.primitives.asymmetric import ec

from certs.bundle import TrustBundle
from certs.csr import build_csr
from certs.errors import BundleMalformed, CertsError
from certs.keys import new_key
from certs.spiffe import SpiffeId
from certs.svid import Svid
from certs.verify import verify_chain
from mesh.wire import Certificate, CertificateRequest

MAX_TOKEN_BYTES: Final = 16 * 1024  # a projected Kubernetes token has under 2 KiB
JITTER: Final = 0.05  # of the lifetime, to either side of its half

_random = random.SystemRandom()


class TokenUnreadable(Exception):
    """There is no token to send. The message says where it was looked for, never what was found."""


class IdentityRefused(Exception):
    """The control plane's answer is no certificate that this sidecar may use. The message says what to do."""


class Tokens:
    """Where the token comes from: a file, read at every call, or "-" for the descriptor `stdin`, read once."""

    def __init__(self, source: str, *, stdin: int = 0) -> None:
        self.source = source
        self._stdin = stdin
        self._said: bytes | None = None

    async def read(self) -> str:
        """The token, without the white space around it. Raises TokenUnreadable."""
        try:
            raw = await trio.to_thread.run_sync(self._read, abandon_on_cancel=True)
        except OSError as error:
            raise TokenUnreadable(f"cannot read the token file {self.source}: {error.strerror}") from None
        token = raw.strip()
        if not token:
            raise TokenUnreadable(f"the token file {self.source} is empty: a token that attests belongs there")
        if len(token) > MAX_TOKEN_BYTES or not token.isascii() or not token.decode().isprintable():
            raise TokenUnreadable(f"the token file {self.source} holds no single line of text: is it the right file?")
        return token.decode()

    def _read(self) -> bytes:
        if self.source != "-":
            with Path(self.source).open("rb") as file:
                return file.read(MAX_TOKEN_BYTES + 2)
        if self._said is None:  # it can be read only once, and every attempt needs the token
            self._said = self._read_stdin()
        return self._said

    def _read_stdin(self) -> bytes:
        """Not by sys.stdin: a thread that waits in it holds its lock, over which the interpreter aborts at its end."""
        said = b""
        while piece := os.read(self._stdin, MAX_TOKEN_BYTES + 2 - len(said)):
            said += piece
        return said


class Enrolment:
    """Asks for certificates of `identity`, one key after another, and judges the answers."""

    def __init__(self, identity: SpiffeId) -> None:
        self._identity = identity
        self._key: ec.EllipticCurvePrivateKey | None = None
        self._csr = b""

    def request(self, token: str | None) -> CertificateRequest:
        """The message that asks: with a token, or None where the link's own certificate attests."""
        if self._key is None:
            self._key = new_key()
            self._csr = build_csr(self._key)
        return CertificateRequest(self._csr, token, str(self._identity))

    def accept(self, answer: Certificate, trusted: TrustBundle, now: datetime) -> tuple[Svid, TrustBundle]:
        """The new SVID and the roots that came with it. The next request gets a new key.

        `trusted` is what vouched for the control plane. Raises IdentityRefused; the key is then kept.
        """
        assert self._key is not None
        try:
            roots = TrustBundle.from_der(answer.roots)
            svid = Svid.build(self._key, answer.chain)
            peer = verify_chain(svid.chain, TrustBundle((*trusted.all_roots, *roots.all_roots)), now)
        except BundleMalformed as error:
            raise IdentityRefused(f"the roots that came with the certificate cannot be used: {error}") from None
        except CertsError as error:
            raise IdentityRefused(f"the issued certificate is refused: {error}") from None
        if peer.id != self._identity:
            raise IdentityRefused(
                f"the certificate is for {peer.id}, this sidecar is {self._identity}: "
                "use a token that was created for this workload, or correct --workload or --trust-domain"
            )
        self._key = None
        return svid, roots


def renewal_due(svid: Svid, now: datetime) -> datetime:
    """When to renew a certificate that came at `now`: half-way through what is left of it, with jitter."""
    share = 0.5 + _random.uniform(-JITTER, JITTER)
    return now + max(svid.not_after - now, timedelta(0)) * share
