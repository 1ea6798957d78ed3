"""The CA in a Secret: made once whoever starts, taken as cert-manager writes it, or refused with what to do."""

import json
import logging
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import define, field
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from certs.keys import new_key
from certs.spiffe import TrustDomain
from certs.verify import verify_chain
from control_plane.authority import AuthorityRefused, GivenCa, IssuingAuthority, open_authority
from control_plane.kubernetes import ca_secret
from control_plane.kubernetes.api import KubernetesApi
from control_plane.kubernetes.ca_secret import open_ca_secret, read_secret
from control_plane.kubernetes.errors import ApiRefused, ApiUnreachable
from control_plane.state import State
from tests.support.api_server import Answer, ApiServer, Asked, api_server
from tests.support.cert_manager import ca, secret

DOMAIN = TrustDomain("cluster.local")
NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
YEAR = timedelta(days=365)
SECRETS = "/api/v1/namespaces/doorward/secrets"
SOURCE = "the Secret doorward/doorward-ca"


@define(eq=False)
class Secrets:
    """The API server's Secrets, each made only once."""

    kept: dict[str, Any] = field(factory=dict)
    before_answer: Callable[[Asked], object] = lambda _: None
    _lock: Any = field(factory=threading.Lock)

    def __call__(self, asked: Asked) -> Answer:
        with self._lock:
            status = self._do(asked)
        self.before_answer(asked)
        return status

    def _do(self, asked: Asked) -> Answer:
        if asked.method == "GET":
            found = self.kept.get(asked.path)
            return (404, {"kind": "Status", "reason": "NotFound"}) if found is None else (200, found)
        path = f"{asked.path}/{asked.body['metadata']['name']}"
        if path in self.kept:
            return 409, {"kind": "Status", "reason": "AlreadyExists"}
        self.kept[path] = asked.body
        return 201, asked.body


@pytest.fixture
def secrets() -> Secrets:
    return Secrets()


@pytest.fixture
def server(tmp_path: Path, secrets: Secrets) -> Iterator[ApiServer]:
    with api_server(tmp_path, secrets) as server:
        yield server


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    with State.open(tmp_path / "state", trust_domain=DOMAIN.name) as state:
        yield state


async def opened(server: ApiServer) -> GivenCa:
    async with server.api() as api:
        return await open_ca_secret(api, "doorward", "doorward-ca", DOMAIN, now=NOW, lifetime=YEAR)


def used(state: State, given: GivenCa) -> IssuingAuthority:
    """The authority that issues by it; a certificate of it verifies."""
    authority = open_authority(state, DOMAIN, lambda: NOW + timedelta(minutes=5), given)
    leaf = authority.issue(new_key().public_key(), DOMAIN.workload("shop", "checkout"))
    assert verify_chain(leaf, authority.bundle, NOW + timedelta(minutes=6)).id == DOMAIN.workload("shop", "checkout")
    return authority


async def test_the_first_start_makes_it_and_the_second_finds_it(
    server: ApiServer, secrets: Secrets, state: State
) -> None:
    first = await opened(server)
    made = secrets.kept[f"{SECRETS}/doorward-ca"]
    assert made["type"] == "kubernetes.io/tls"
    assert made["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "doorward"
    assert sorted(made["data"]) == ["ca.crt", "tls.crt", "tls.key"]
    second = await opened(server)
    assert (second.chain, second.key) == (first.chain, first.key)
    assert [asked.method for asked in server.asked] == ["GET", "POST", "GET"]
    assert used(state, first).root_not_after == NOW + YEAR
    assert used(state, second).bundle == used(state, first).bundle


async def test_nothing_of_its_key_is_on_the_disk_or_in_the_log(
    server: ApiServer, state: State, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        given = await opened(server)
        used(state, given)
    lines = [line for line in given.key.splitlines() if not line.startswith(b"-")]
    assert not [file for file in state.path.iterdir() if any(line in file.read_bytes() for line in lines)]
    said = "".join(str(vars(record)) for record in caplog.records) + repr(given)
    assert "put it into a Secret" in said
    assert not [line for line in lines if line.decode() in said]


async def test_two_that_start_at_once_agree(server: ApiServer, secrets: Secrets) -> None:
    both = threading.Barrier(2, timeout=30)
    secrets.before_answer = lambda asked: both.wait() if len(server.asked) <= 2 else None
    found: list[GivenCa] = []

    async def start() -> None:
        found.append(await opened(server))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(start)
        nursery.start_soon(start)
    assert found[0].key == found[1].key
    assert sorted(asked.method for asked in server.asked) == ["GET", "GET", "GET", "POST", "POST"]


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP384R1()),
        rsa.generate_private_key(65537, 2048),
    ],
    ids=["ECDSA 256", "ECDSA 384", "RSA 2048"],
)
async def test_what_cert_manager_makes_is_taken(
    server: ApiServer, secrets: Secrets, state: State, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
) -> None:
    made = ca(NOW, key=key)
    secrets.kept[f"{SECRETS}/doorward-ca"] = secret(made)
    assert used(state, await opened(server)).bundle.all_roots == (made.certificate,)
    assert [asked.method for asked in server.asked] == ["GET"], "and nothing is made or changed"


def test_a_chain_that_does_not_reach_its_root_is_completed(state: State) -> None:
    root = ca(NOW, name="company root")
    middle = ca(NOW, name="middle", issuer=root)
    made = ca(NOW, issuer=middle)
    with_both = secret(made, **{"tls.crt": made.pem + middle.pem, "ca.crt": root.pem})
    assert used(state, read_secret(with_both, SOURCE, DOMAIN)).bundle.all_roots == (root.certificate,)
    from_above = secret(made, **{"ca.crt": root.pem + middle.pem})
    assert used(state, read_secret(from_above, SOURCE, DOMAIN)).issuer.chain[1:] == (
        made.certificate,
        middle.certificate,
        root.certificate,
    )


def without(name: str) -> dict[str, Any]:
    made = secret(ca(NOW))
    del made["data"][name]
    return made


def text(name: str, content: object) -> dict[str, Any]:
    made = secret(ca(NOW))
    made["data"][name] = content
    return made


@pytest.mark.parametrize(
    "found",
    [
        None,
        [],
        {},
        {"data": None},
        {"data": []},
        without("tls.crt"),
        without("tls.key"),
        text("tls.key", 7),
        text("tls.key", None),
        text("tls.key", "no base64"),
        text("tls.crt", "%%%"),
        text("ca.crt", "no base64"),
    ],
    ids=lambda value: json.dumps(value)[:60],
)
def test_a_secret_that_lacks_something_is_refused_by_name(found: Any) -> None:
    with pytest.raises(AuthorityRefused, match=SOURCE):
        read_secret(found, SOURCE, DOMAIN)


COMPANY = ca(NOW, uris=(), name="company root")


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (secret(ca(NOW, uris=())), "names no trust domain"),
        (secret(ca(NOW, uris=("spiffe://partner.example",))), "trust domain partner.example, not cluster.local"),
        (secret(ca(NOW, uris=("spiffe://a", "spiffe://b"))), "URI"),
        (secret(ca(NOW, is_ca=False)), "no CA"),
        (secret(ca(NOW, key=ed25519.Ed25519PrivateKey.generate())), "neither EC nor RSA"),
        (secret(ca(NOW, key=rsa.generate_private_key(65537, 1024))), "too weak"),
        (secret(ca(NOW), **{"tls.key": ca(NOW).key_pem}), "is not for the CA's key"),
        (secret(ca(NOW, issuer=COMPANY), COMPANY), "names no trust domain"),
        (secret(ca(NOW, issuer=ca(NOW, name="gone")), None), "not signed by itself"),
        (secret(ca(NOW - timedelta(days=200))), "ended at"),
        (secret(ca(NOW), **{"tls.crt": b"no PEM"}), "cannot be read"),
        (secret(ca(NOW), **{"tls.key": b"no PEM"}), "no private key in PEM"),
        (secret(ca(NOW), **{"ca.crt": b"no PEM", "tls.crt": b""}), "cannot be read"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_ca_that_cannot_be_used_is_refused_with_what_to_do(state: State, found: dict[str, Any], why: str) -> None:
    with pytest.raises(AuthorityRefused) as caught:
        used(state, read_secret(found, SOURCE, DOMAIN))
    said = str(caught.value)
    assert said.startswith(f"the CA in {SOURCE} cannot be used: ")
    assert why in said
    for advice in ("isCA: true", "uris: [spiffe://cluster.local]", "privateKey: {algorithm: ECDSA, size: 256}"):
        assert advice in said
    assert [file.name for file in state.path.iterdir() if file.suffix in {".pem", ".key"}] == []


def test_another_ca_in_the_secret_takes_over_and_the_former_root_stays_trusted(state: State) -> None:
    first, second = ca(NOW), ca(NOW)
    leaf = used(state, read_secret(secret(first), SOURCE, DOMAIN)).issue(
        new_key().public_key(), DOMAIN.workload("shop", "checkout")
    )
    for _ in range(2):
        authority = used(state, read_secret(secret(second), SOURCE, DOMAIN))
        assert authority.bundle.all_roots == (second.certificate, first.certificate)
        assert verify_chain(leaf, authority.bundle, NOW + timedelta(minutes=10)).root


@pytest.mark.parametrize(
    "answer",
    [
        lambda _: (403, {"kind": "Status", "reason": "Forbidden", "message": "secrets is forbidden"}),
        lambda _: (500, b""),
        lambda asked: (404, {}) if asked.method == "GET" else (403, {"reason": "Forbidden"}),
        lambda asked: (404, {}) if asked.method == "GET" else (409, {"reason": "AlreadyExists"}),
    ],
    ids=["not read", "broken", "not made", "neither there nor not"],
)
async def test_an_api_server_that_gives_none_ends_the_start_and_says_why(
    server: ApiServer, answer: Callable[[Asked], Answer]
) -> None:
    server.answer = answer
    with pytest.raises(AuthorityRefused, match=SOURCE):
        await opened(server)


async def test_a_start_waits_for_an_api_server_that_is_away(
    server: ApiServer, secrets: Secrets, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, ask = ca(NOW), KubernetesApi.get
    away = [ApiRefused(403, "Forbidden", "only just started"), ApiUnreachable("no API server answers")]
    secrets.kept[f"{SECRETS}/doorward-ca"] = secret(made)

    async def get(api: KubernetesApi, path: str) -> dict[str, Any]:
        if away:
            raise away.pop()
        return await ask(api, path)

    monkeypatch.setattr(KubernetesApi, "get", get)
    monkeypatch.setattr(ca_secret, "BACKOFF_SECONDS", (0.01, 0.01))
    assert (await opened(server)).key == made.key_pem
    assert [asked.method for asked in server.asked] == ["GET"], "and no new root is made meanwhile"
    assert caplog.text.count("the start waits for the API server") == 2
