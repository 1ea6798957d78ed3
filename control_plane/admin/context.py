"""A context: where an operator reaches a control plane, the roots that it pins, and its own key and certificate.

One file in TOML holds it all, the private key included: `server`, `bundle`, `certificate` and `key`. Who the operator
is, and of which trust domain, its certificate says.
"""

import tomllib
from datetime import datetime
from typing import Final, Self

from attrs import frozen
from cryptography.hazmat.primitives import serialization

from certs.bundle import TrustBundle
from certs.certificate import load_pem, to_der
from certs.errors import CertsError
from certs.keys import key_from_pem, key_to_pem
from certs.spiffe import TrustDomain
from certs.svid import Svid
from control_plane.admin.errors import ContextRefused
from control_plane.settings import HostPort, SettingRefused

KEYS: Final = ("server", "bundle", "certificate", "key")
MAX_BYTES: Final = 1024 * 1024

_HEAD = "# For `doorward context add`. It holds a private key: whoever has this file is this operator.\n"


@frozen
class Context:
    """How one operator reaches one control plane."""

    server: HostPort
    bundle: TrustBundle
    svid: Svid

    def __attrs_post_init__(self) -> None:
        if self.svid.id.operator is None:
            raise ContextRefused(f"the context's certificate is that of {self.svid.id}, which is no operator")
        if not self.bundle.roots_of(self.svid.id.trust_domain):
            raise ContextRefused(f"the context's bundle has no root of its trust domain {self.svid.id.trust_domain}")

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """Read a context file. Raises ContextRefused, without quoting what it holds."""
        fields = _fields(content)
        try:
            key = key_from_pem(fields["key"].encode())
            chain = [to_der(each) for each in load_pem(fields["certificate"].encode())]
            svid, bundle = Svid.build(key, chain), TrustBundle.from_pem(fields["bundle"].encode())
            return cls(HostPort.parse(fields["server"], "server"), bundle, svid)
        except (CertsError, SettingRefused) as error:
            raise ContextRefused(f"the context cannot be used: {error}") from error

    def to_toml(self) -> bytes:
        """The file, its secret included."""
        certificate = b"".join(each.public_bytes(serialization.Encoding.PEM) for each in self.svid.chain)
        blocks = {"bundle": self.bundle.to_pem(), "certificate": certificate, "key": key_to_pem(self.svid.key)}
        text = [f'{name} = """\n{pem.decode("ascii")}"""\n' for name, pem in blocks.items()]
        return "".join([_HEAD, f'server = "{self.server}"\n', *text]).encode()

    @property
    def trust_domain(self) -> TrustDomain:
        """The operator's, and so the control plane's."""
        return TrustDomain(self.svid.id.trust_domain)

    @property
    def usual_name(self) -> str:
        """What the context is called unless its owner says otherwise: `<operator>@<trust domain>`."""
        return f"{self.svid.id.operator}@{self.trust_domain}"

    def check_dates(self, now: datetime) -> None:
        """Raises ContextRefused where the certificate has ended, or the clocks disagree."""
        name, ends = self.svid.id.operator, self.svid.not_after
        if now > ends:
            raise ContextRefused(
                f"the certificate of operator {name} ended at {ends:%Y-%m-%d %H:%M:%S} UTC. Get a new one: "
                f"`doorward operator create {name}` at the control plane's own socket or as another operator, "
                "then `doorward context add FILE`"
            )
        if now < self.svid.not_before:
            raise ContextRefused(
                f"the certificate of operator {name} is valid from {self.svid.not_before:%Y-%m-%d %H:%M:%S} UTC on: "
                "set this machine's clock"
            )


def _fields(content: bytes) -> dict[str, str]:
    try:
        fields = tomllib.loads(content[:MAX_BYTES].decode())
    except ValueError as error:
        raise ContextRefused("this is no context: it is not TOML; make one with `doorward operator create`") from error
    wrong = sorted(set(fields) ^ set(KEYS)) or [name for name, value in fields.items() if not isinstance(value, str)]
    if wrong:
        raise ContextRefused(
            f"this is no context: {wrong[0][:80]!r} is missing, unknown or no text; it holds {', '.join(KEYS)}"
        )
    return fields
