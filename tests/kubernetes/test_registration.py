"""The webhook's caBundle in the real API server is kept equal to the trusted roots, and the rest of it untouched."""

from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trio

from certs.bundle import TrustBundle
from control_plane.authority import IssuingAuthority, open_authority
from control_plane.injector.registration import PATH, Registration
from control_plane.state import State
from tests.support.charts import render
from tests.support.cluster import Cluster
from tests.support.injected import NAME, SECONDS, Injected, open_injected, pod_of, until_injected
from tests.support.kube import RBAC, Kube, client
from tests.support.namespaces import Pod
from tests.support.pki import Pki

ROLES = f"{RBAC}/clusterroles"
READ = {
    "apiGroups": ["admissionregistration.k8s.io"],
    "resources": ["mutatingwebhookconfigurations"],
    "verbs": ["get", "list", "watch"],
}
REFUSALS = "doorward_control_plane_kubernetes_requests_failed_total"
MISSING = "there is no such MutatingWebhookConfiguration"
FAILED = "caBundle cannot be brought up to date"


@pytest.fixture
async def injected(cluster: Cluster, kube: Kube, place: Pod, short_directory: Path) -> AsyncIterator[Injected]:
    async with open_injected(cluster, kube, place, short_directory, registered=False) as injected:
        yield injected


async def put(injected: Injected, pki: Pki) -> str:
    """Let somebody write other roots there; returns what was written."""
    value = b64encode(pki.bundle.to_pem()).decode()
    change = [{"op": "add", "path": "/webhooks/0/clientConfig/caBundle", "value": value}]
    await injected.kube.api.patch(f"{PATH}/{NAME}", change, kind="json")
    return value


async def until_current(injected: Injected, bundle: str) -> None:
    with trio.fail_after(SECONDS):
        while await injected.bundle() != bundle:
            await trio.sleep(0.02)


def without_bundle(configuration: dict[str, Any]) -> dict[str, Any]:
    (hook,) = configuration["webhooks"]
    return {**hook, "clientConfig": {name: each for name, each in hook["clientConfig"].items() if name != "caBundle"}}


async def test_it_is_filled_in_when_the_chart_comes_and_put_right_when_somebody_overwrites_it(
    injected: Injected,
) -> None:
    said = await injected.until_logged(MISSING)
    assert (said["level"], said["name"]) == ("warning", NAME)
    assert (await injected.check("injector"))["status"] == "fail"
    shop = await injected.kube.namespace("shop", inject=True)

    await injected.register()
    bundle = await injected.until_registered()
    assert b64decode(bundle) == (injected.mesh.state / "root.pem").read_bytes()
    with trio.fail_after(SECONDS):
        while (await injected.check("injector"))["status"] != "ok":  # what it has written it sees a moment later
            await trio.sleep(0.1)
    before = without_bundle(await injected.configuration())

    for _ in range(2):
        assert await put(injected, Pki()) != bundle
        await until_current(injected, bundle)
    assert without_bundle(await injected.configuration()) == before
    await until_injected(injected.kube, shop)
    assert (await injected.create(shop, pod_of("web"))).exit == 0
    assert injected.outcomes(shop)[-2:] == ["injected", "unchanged"]
    assert len(injected.lines(MISSING)) == 1


@pytest.fixture
def authority(tmp_path: Path) -> Iterator[IssuingAuthority]:
    with State.open(tmp_path / "state", trust_domain="cluster.local") as state:
        yield open_authority(state, state.trust_domain, lambda: datetime.now(UTC))


@asynccontextmanager
async def registering(cluster: Cluster, token_file: Path, authority: IssuingAuthority) -> AsyncIterator[Registration]:
    """The very part, in this process."""
    async with client(cluster, token_file) as api, trio.open_nursery() as nursery:
        registration = Registration(api, NAME, authority)
        nursery.start_soon(registration.run)
        yield registration
        nursery.cancel_scope.cancel()


async def until(registration: Registration, state: str) -> str:
    """Wait for that state; returns its detail."""
    with trio.fail_after(SECONDS):
        while (found := registration.status()).state != state:
            await trio.sleep(0.02)
    return found.detail


async def test_it_follows_roots_that_change(cluster: Cluster, kube: Kube, authority: IssuingAuthority) -> None:
    await kube.create(PATH, render().one("MutatingWebhookConfiguration", NAME))
    async with registering(cluster, cluster.admin_token_file, authority) as registration:
        await until(registration, "current")
        partner, another = Pki("partner.example"), Pki()
        authority.bundle = TrustBundle([*authority.bundle.all_roots, another.root.root, partner.root.root])
        await until(registration, "stale")
        await until(registration, "current")
        written = (await kube.api.get(f"{PATH}/{NAME}"))["webhooks"][0]["clientConfig"]["caBundle"]
    assert b64decode(written) == authority.bundle.to_pem(authority.trust_domain)
    assert partner.bundle.to_pem() not in b64decode(written), "another trust domain must not vouch for our webhook"


async def test_without_the_right_to_change_it_the_reason_is_said_once(
    cluster: Cluster, kube: Kube, authority: IssuingAuthority, caplog: pytest.LogCaptureFixture
) -> None:
    await kube.create(PATH, render().one("MutatingWebhookConfiguration", NAME))
    token_file = await kube.account(await kube.namespace("doorward"), "reader", cluster_rules=[READ])
    async with registering(cluster, token_file, authority) as registration:
        with trio.fail_after(SECONDS):
            while registration.api.contact.metrics.registry.get_sample_value(REFUSALS, {"reason": "403"}) != 2:
                await trio.sleep(0.02)
        assert "cannot patch resource" in await until(registration, "stale")
        assert [record.getMessage() for record in caplog.records].count(FAILED) == 1
        change = [{"op": "add", "path": "/rules/0/verbs/-", "value": "patch"}]
        (role,) = [each for each in await cluster_roles(kube) if each.endswith("-reader")]
        await kube.api.patch(f"{ROLES}/{role}", change, kind="json")
        await until(registration, "current")


async def cluster_roles(kube: Kube) -> list[str]:
    return [each["metadata"]["name"] for each in (await kube.api.get(ROLES))["items"]]
