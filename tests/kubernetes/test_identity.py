"""Who a pod is, by the real API server's word: real tokens, TokenReviews and sidecars; and the CA in a Secret."""

import json
import time
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import define
from cryptography.hazmat.primitives.asymmetric import rsa

from certs.bundle import TrustBundle
from certs.csr import build_csr
from certs.keys import new_key
from certs.svid import Svid
from certs.tls import client_context
from examples.demo.local_mesh import PROGRAMS, LocalMesh, Process, StartFailed, http_get, open_local_mesh, wait_for
from mesh.wire import ALPN, Certificate, CertificateRequest, Message, Nack, Unknown
from tests.support.cert_manager import ca, secret
from tests.support.cluster import Cluster
from tests.support.kube import Kube, Object
from tests.support.namespaces import Pod
from tests.support.plane import Caller, names_of
from tests.support.processes import logged
from tests.support.tokens import claims, key_in, signed_anew
from transport import TlsStream

REVIEW = {"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]}
READ = {"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list", "watch"]}
MAKE_SECRETS = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "create"]}

REMEMBERED = 11.0  # seconds: for ten of them the API server remembers that it found a token good


@define(eq=False)
class Shop:
    """A control plane that asks the API server, and the service accounts `checkout` and `payments` of one namespace."""

    kube: Kube
    mesh: LocalMesh
    place: Pod
    namespace: str

    async def pod(self, name: str, service_account: str = "checkout") -> Object:
        """A running pod of that service account."""
        return await self.kube.pod(self.namespace, name, ips=["10.77.0.200"], service_account=service_account)

    async def token(self, pod: Object | None, service_account: str = "checkout", **how: Any) -> str:
        return await self.kube.token(self.namespace, service_account, pod=pod, **how)

    def identity(self, service_account: str = "checkout") -> str:
        return f"spiffe://cluster.local/ns/{self.namespace}/sa/{service_account}"

    async def link(self, svid: Svid | None = None) -> Caller:
        """The sidecar's end of a link, after both Hellos."""
        host, _, port = self.mesh.address.rpartition(":")
        plain = await self.place.connect(host, int(port))
        bundle = TrustBundle.from_pem((self.mesh.directory / "bundle.pem").read_bytes())
        caller = Caller(TlsStream(plain.socket, client_context(svid, bundle, [ALPN]), server_side=False))
        await caller.stream.do_handshake()
        await caller.greet()
        return caller

    async def ask(
        self, token: str | None, expected: str | None = None, svid: Svid | None = None
    ) -> Message | Unknown | None:
        """What one request for a certificate is answered, on a link of its own."""
        caller = await self.link(svid)
        try:
            return await caller.ask(CertificateRequest(build_csr(new_key()), token, expected))
        finally:
            caller.stream.abort()

    async def refused(self, code: str, token: str, expected: str | None = None, svid: Svid | None = None) -> None:
        """The request is refused by that code, which is counted, and logged without the token."""
        before = await self.count(code)
        answer = await self.ask(token, expected, svid)
        assert isinstance(answer, Nack), answer
        assert (answer.about, answer.code) == ("CertificateRequest", code), answer.message
        assert await self.count(code) == before + 1
        line = self.said("certificate refused")[-1]
        assert (line["code"], line["level"].lower(), line["reason"]) == (code, "warning", answer.message)
        assert token not in self.log

    async def svid(self, token: str) -> Svid:
        """The certificate that a token buys."""
        caller, key = await self.link(), new_key()
        answer = await caller.ask(CertificateRequest(build_csr(key), token))
        caller.stream.abort()
        assert isinstance(answer, Certificate), answer
        return Svid.build(key, answer.chain)

    @property
    def log(self) -> str:
        assert self.mesh.control_plane is not None
        return self.mesh.control_plane.log.read_text()

    def said(self, event: str) -> list[dict[str, Any]]:
        """The control plane's log lines of an event."""
        assert self.mesh.control_plane is not None
        return logged(self.mesh.control_plane, event)

    async def count(self, code: str) -> float:
        """How many certificates were refused by that code."""
        _, text = await http_get(self.mesh.observe, "/metrics", self.place.place())
        name = f'doorward_control_plane_requests_refused_total{{about="CertificateRequest",code="{code}"}}'
        found = [line.rpartition(" ")[2] for line in text.splitlines() if line.startswith(name)]
        return float(found[0]) if found else 0.0

    async def grounds(self) -> list[dict[str, Any]]:
        """On what ground each certificate was issued, by the audit log."""
        entries = (await self.mesh.admin(lambda client: client.get("/v1/audit")))["entries"]
        return [entry["detail"] for entry in entries if entry["event"] == "certificate.issued"]

    def sidecar(self, token: str, service_account: str = "checkout") -> "Joining":
        """Start a sidecar that is told to be that service account; it may never become ready."""
        file = self.mesh.directory / f"projected-{len(self.mesh.processes)}"
        file.write_text(token)
        run_file = file.with_suffix(".run.json")
        command = [str(PROGRAMS / "doorward-sidecar"), "run", "--workload", f"{self.namespace}/{service_account}"]
        command += ["--control-plane", self.mesh.address, "--bundle", str(self.mesh.directory / "bundle.pem")]
        command += ["--token-file", str(file), "--observe", "127.0.0.1:0", "--run-file", str(run_file)]
        command += ["--backoff-max", "1s"]
        process = self.mesh.start(f"sidecar-{file.name}", command, place=self.place.place())
        return Joining(process, file, run_file)


@define(eq=False)
class Joining:
    """A sidecar's process and the file of its token."""

    process: Process
    file: Path
    run_file: Path

    async def ready(self) -> tuple[int, str]:
        """What its /ready answers."""
        await wait_for(self.run_file.exists, what="the sidecar's addresses")
        return await http_get(json.loads(self.run_file.read_text())["observe"], "/ready", self.process.place)

    async def until_ready(self) -> None:
        await self.until(200)

    async def until(self, status: int, seconds: float = 30.0) -> None:
        """Wait until /ready answers so."""
        with trio.fail_after(seconds):
            while (await self.ready())[0] != status:
                await trio.sleep(0.05)

    async def until_said(self, what: str) -> None:
        await wait_for(lambda: what in self.process.log.read_text(), what=f"{what} in the sidecar's log")


async def open_shop(
    kube: Kube, place: Pod, mesh: LocalMesh, *options: str, rules: Sequence[Object] = (READ, REVIEW)
) -> Shop:
    namespace = await kube.namespace("shop")
    for name in ("checkout", "payments"):
        await kube.service_account(namespace, name)
    await kube.control_plane(mesh, place, *options, cluster_rules=rules)
    return Shop(kube, mesh, place, namespace)


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[LocalMesh]:
    directory = tmp_path / "mesh"
    directory.mkdir()
    async with open_local_mesh(directory) as mesh:
        yield mesh


@pytest.fixture
async def shop(kube: Kube, place: Pod, mesh: LocalMesh) -> Shop:
    return await open_shop(kube, place, mesh)


async def test_a_pods_token_buys_a_real_sidecar_its_certificate(shop: Shop) -> None:
    pod = await shop.pod("checkout-1")
    token = await shop.token(pod)
    sidecar = shop.sidecar(token)
    await sidecar.until_ready()
    (ground,) = await shop.grounds()
    assert ground["method"] == "kubernetes"
    assert ground["service_account"] == f"{shop.namespace}/checkout"
    assert (ground["pod"], ground["pod_uid"]) == ("checkout-1", pod["metadata"]["uid"])
    (issued,) = shop.said("certificate issued")
    assert (issued["identity"], issued["method"]) == (shop.identity(), "kubernetes")
    assert token not in shop.log + sidecar.process.log.read_text()


async def test_only_a_genuine_token_of_a_living_pod_for_us_buys_anything(shop: Shop, cluster: Cluster) -> None:
    pod = await shop.pod("checkout-1")
    good, signer = await shop.token(pod), key_in(cluster.directory / "accounts.key")
    now = int(time.time())

    await shop.refused("token_wrong_audience", await shop.token(pod, audience="vault"))
    await shop.refused("token_wrong_audience", await shop.token(pod, audience=""))  # the API server's own
    await shop.refused("token_not_bound_to_a_pod", await shop.token(None))
    expired = signed_anew(good, signer, iat=now - 1200, nbf=now - 1200, exp=now - 600)
    await shop.refused("token_not_authenticated", expired)
    elsewhere = signed_anew(good, rsa.generate_private_key(65537, 2048))
    await shop.refused("token_not_authenticated", elsewhere)
    await shop.refused("token_not_authenticated", signed_anew(good, signer, iss="https://other.example"))
    await shop.refused("token_not_authenticated", "e30.e30.c2ln")
    assert {"invalid" in line["detail"] for line in shop.said("certificate refused") if line["detail"]} == {True}

    # What was changed above is what decided: signed by the same key with its own claims, it is good.
    answer = await shop.ask(signed_anew(good, signer), shop.identity())
    assert isinstance(answer, Certificate)
    assert names_of(answer.chain) == [shop.identity()]
    assert len(await shop.grounds()) == 1


async def test_the_token_of_a_deleted_pod_buys_nothing_even_where_another_has_its_name(shop: Shop) -> None:
    token = await shop.token(await shop.pod("checkout-0"))
    await shop.kube.forget_pod(shop.namespace, "checkout-0")
    await shop.refused("token_not_authenticated", token)
    newer = await shop.pod("checkout-0")
    await shop.refused("token_not_authenticated", token)
    assert isinstance(await shop.ask(await shop.token(newer)), Certificate)


async def test_a_token_of_another_service_account_than_asked_for_buys_nothing(shop: Shop) -> None:
    checkout, payments = await shop.pod("checkout-1"), await shop.pod("payments-1", "payments")
    token = await shop.token(payments, "payments")
    await shop.refused("token_for_other_workload", token, shop.identity("checkout"))
    linked = await shop.svid(await shop.token(checkout))
    await shop.refused("token_for_other_workload", token, svid=linked)
    sidecar = shop.sidecar(token, "checkout")  # at last: it tries again and again, and each time is counted
    await sidecar.until_said("token_for_other_workload")
    assert (await sidecar.ready())[0] == 503
    assert [ground["service_account"] for ground in await shop.grounds()] == [f"{shop.namespace}/checkout"]


async def test_a_malicious_pod_gets_no_identity_of_another_namespace(shop: Shop) -> None:
    kube, evil = shop.kube, await shop.kube.namespace("evil")
    await kube.service_account(evil, "checkout")  # the same name, elsewhere
    pod = await kube.pod(evil, "checkout-1", ips=["10.77.0.201"], service_account="checkout")
    token = await kube.token(evil, "checkout", pod=pod)
    await shop.refused("token_for_other_workload", token, shop.identity("checkout"))
    claimed = {**claims(token)["kubernetes.io"], "namespace": shop.namespace}
    own_key = rsa.generate_private_key(65537, 2048)
    subject = f"system:serviceaccount:{shop.namespace}:checkout"
    forged = signed_anew(token, own_key, sub=subject, **{"kubernetes.io": claimed})
    await shop.refused("token_not_authenticated", forged, shop.identity("checkout"))
    answer = await shop.ask(token)
    assert isinstance(answer, Certificate)
    assert names_of(answer.chain) == [f"spiffe://cluster.local/ns/{evil}/sa/checkout"], "it is what it is"


async def test_a_renewal_needs_the_token_too(shop: Shop) -> None:
    token = await shop.token(await shop.pod("checkout-1"))
    svid = await shop.svid(token)
    answer = await shop.ask(None, svid=svid)
    assert isinstance(answer, Nack)
    assert answer.code == "token_required"
    assert isinstance(await shop.ask(token, shop.identity(), svid), Certificate)


async def test_a_rotated_token_is_read_anew_at_the_next_renewal(kube: Kube, place: Pod, mesh: LocalMesh) -> None:
    shop = await open_shop(kube, place, mesh, "--certificate-lifetime", "6s")
    sidecar = shop.sidecar(await shop.token(await shop.pod("checkout-1")))
    await sidecar.until_ready()
    sidecar.file.write_text(await shop.token(await shop.pod("checkout-2")))
    with trio.fail_after(30):
        while (await shop.grounds())[-1]["pod"] != "checkout-2":
            await trio.sleep(0.1)
    assert {ground["method"] for ground in await shop.grounds()} == {"kubernetes"}
    await sidecar.until_ready()


async def test_a_deleted_service_account_is_renewed_no_more_and_its_certificate_ends_in_its_time(
    kube: Kube, place: Pod, mesh: LocalMesh
) -> None:
    shop = await open_shop(kube, place, mesh, "--certificate-lifetime", f"{2.4 * REMEMBERED:g}s")
    sidecar = shop.sidecar(await shop.token(await shop.pod("checkout-1")))
    await sidecar.until_ready()
    await kube.api.delete(f"/api/v1/namespaces/{shop.namespace}/serviceaccounts/checkout")
    await sidecar.until_said("the cluster does not take the service account's token")
    status, why = await sidecar.ready()
    assert status == 200, why
    assert len(await shop.grounds()) == 1
    await sidecar.until(503)
    assert "ran out" in (await sidecar.ready())[1]
    assert len(await shop.grounds()) == 1


async def test_while_the_api_server_is_away_nothing_is_issued_and_what_is_there_stays(
    shop: Shop, cluster: Cluster
) -> None:
    token = await shop.token(await shop.pod("checkout-1"))
    svid = await shop.svid(token)
    async with cluster.api_server_away():
        await shop.refused("attestation_unavailable", token)
        (await shop.link(svid)).stream.abort()  # whoever has a certificate is let in
    with trio.fail_after(30):
        while not isinstance(await shop.ask(token), Certificate):
            await trio.sleep(0.1)


async def test_a_control_plane_that_may_not_ask_issues_nothing_and_says_what_is_missing(
    kube: Kube, place: Pod, mesh: LocalMesh
) -> None:
    shop = await open_shop(kube, place, mesh, rules=[READ])
    await shop.refused("attestation_unavailable", await shop.token(await shop.pod("checkout-1")))
    assert "tokenreviews.authentication.k8s.io is forbidden" in shop.said("certificate refused")[-1]["detail"]


class TestCaSecret:
    async def start(self, kube: Kube, mesh: LocalMesh, place: Pod, namespace: str, token_file: Path) -> str:
        """Start the control plane by the Secret. Returns its bundle."""
        cluster = ["--kubernetes", kube.cluster.url, "--kubernetes-ca", str(kube.cluster.ca)]
        cluster += ["--kubernetes-token-file", str(token_file), "--kubernetes-namespace", namespace]
        await mesh.start_control_plane(
            *cluster, "--ca-secret", "doorward-ca", listen=f"{place.ipv4}:7443", place=place.place()
        )
        return (mesh.directory / "bundle.pem").read_text()

    @pytest.fixture
    async def own(self, kube: Kube) -> str:
        return await kube.namespace("doorward")

    @pytest.fixture
    async def token_file(self, kube: Kube, own: str) -> Path:
        return await kube.account(own, "doorward", cluster_rules=[READ], rules=[MAKE_SECRETS])

    async def test_it_is_made_at_the_first_start_and_found_at_the_second(
        self, kube: Kube, place: Pod, mesh: LocalMesh, own: str, token_file: Path, tmp_path: Path
    ) -> None:
        bundle = await self.start(kube, mesh, place, own, token_file)
        made = await kube.api.get(f"/api/v1/namespaces/{own}/secrets/doorward-ca")
        assert made["type"] == "kubernetes.io/tls"
        assert sorted(path.name for path in mesh.state.glob("*.key")) == ["issuer.key"]
        assert mesh.control_plane is not None
        await mesh.control_plane.stop()
        async with open_local_mesh(tmp_path) as elsewhere:  # nothing of the first start's state is there
            assert await self.start(kube, elsewhere, place, own, token_file) == bundle
        assert await kube.api.get(f"/api/v1/namespaces/{own}/secrets/doorward-ca") == made

    async def test_one_of_cert_manager_is_used(
        self, kube: Kube, place: Pod, mesh: LocalMesh, own: str, token_file: Path
    ) -> None:
        made = ca(datetime.now(UTC) - timedelta(minutes=1))
        await kube.api.create(f"/api/v1/namespaces/{own}/secrets", secret(made))
        assert await self.start(kube, mesh, place, own, token_file) == made.pem.decode()

    async def test_one_that_cannot_be_used_ends_the_start_with_what_to_do(
        self, kube: Kube, place: Pod, mesh: LocalMesh, own: str, token_file: Path
    ) -> None:
        await kube.api.create(f"/api/v1/namespaces/{own}/secrets", secret(ca(datetime.now(UTC), uris=())))
        with pytest.raises(StartFailed) as caught:
            await self.start(kube, mesh, place, own, token_file)
        for said in (f"the Secret {own}/doorward-ca", "uris: [spiffe://cluster.local]"):
            assert said in str(caught.value)
