"""The chart in a real API server, by the real Helm: installed, upgraded, rolled back, uninstalled, installed again."""

import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
import yaml

from control_plane.kubernetes.errors import ApiRefused
from tests.support.charts import CHART, ROOT, helm, names, values_file
from tests.support.definitions import DEFINED, until_defined
from tests.support.kube import Kube
from tests.support.releases import WEBHOOK, Release, differences, open_release
from tests.support.stock import program

PRODUCTION = CHART / "values-production.yaml"
KEPT = {"PersistentVolumeClaim/doorward", *(f"CustomResourceDefinition/{name}" for name in DEFINED)}
CA_BUNDLE = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCk1BPT0KLS0tLS1FTkQgQ0VSVElGSUNBVEUtLS0tLQo="


@pytest.fixture
async def release(kube: Kube, tmp_path: Path) -> AsyncIterator[Release]:
    """Nothing installed yet."""
    async with open_release(kube, tmp_path) as release:
        yield release


async def check_all_there(release: Release, values: dict[str, Any], chart: Path = CHART) -> None:
    wanted = release.rendered(values, chart)
    found = await release.live(wanted)
    assert found.keys() == names(wanted)
    for each in wanted:
        name = f"{each['kind']}/{each['metadata']['name']}"
        assert differences(each, found[name], name) == []


async def check_ca_bundle(release: Release) -> None:
    webhook = await release.kube.api.get(WEBHOOK)
    assert [each["clientConfig"].get("caBundle") for each in webhook["webhooks"]] == [CA_BUNDLE]


def former_chart(directory: Path) -> Path:
    """The chart of the newest tag that has one; before the first such tag the present one, under an older version."""
    git = [program("git"), "-C", str(ROOT)]
    for tag in said(*git, "tag", "--sort=-creatordate").split():
        if said(*git, "ls-tree", "--name-only", tag, "helm/doorward/Chart.yaml"):
            archive = directory / "former.tar"
            said(*git, "archive", f"--output={archive}", tag, "helm/doorward")
            said(program("tar"), "-xf", str(archive), "-C", str(directory))
            return directory / "helm" / "doorward"
    helm("package", str(CHART), "--version", "0.0.1", "--app-version", "0.0.1", "--destination", str(directory))
    return directory / "doorward-0.0.1.tgz"


def said(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


async def test_install_upgrade_roll_back_uninstall_and_install_again(
    release: Release, tmp_path: Path, record_property: Any
) -> None:
    former, values = former_chart(tmp_path), {"settings": {"certificate-lifetime": "30m"}}
    record_property("said", f"upgraded from {former.name}: the newest tag's chart, or where no tag has one the present")
    await release.apply("install", {}, former)
    await check_all_there(release, {}, former)
    put = {"op": "add", "path": "/webhooks/0/clientConfig/caBundle", "value": CA_BUNDLE}  # as the control plane does
    await release.kube.api.patch(WEBHOOK, [put], kind="json")

    await release.apply("upgrade", values)
    await check_all_there(release, values)
    await check_ca_bundle(release)
    changed = {**values, "webhook": {"timeoutSeconds": 5}, "networkPolicy": {"enabled": False}}
    await release.apply("upgrade", changed)
    await check_all_there(release, changed)
    await check_ca_bundle(release)
    assert "NetworkPolicy/doorward" not in await release.live(release.rendered(values))

    await release.helm("rollback", "1")
    await check_all_there(release, {}, former)
    await check_ca_bundle(release)
    await release.helm("rollback", "2")
    await check_all_there(release, values)
    await check_ca_bundle(release)

    secrets = f"/api/v1/namespaces/{release.namespace}/secrets"
    await release.kube.api.create(secrets, {"metadata": {"name": "doorward-ca"}, "stringData": {"tls.crt": "made"}})
    await release.helm("uninstall")
    assert (await release.live(release.rendered(values))).keys() == KEPT
    await release.apply("install", values)
    await check_all_there(release, values)
    assert await release.kube.api.get(f"{secrets}/doorward-ca")


async def test_an_uninstall_waits_for_its_check_and_removes_nothing_where_that_fails(release: Release) -> None:
    await release.apply("install", {})
    before = await release.live(release.rendered({}))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fail_the_check, release)
        done = await release.kube.cluster.helm("uninstall", "doorward", "-n", release.namespace)
    assert done.exit != 0
    assert "job doorward-uninstall-check failed" in done.err
    assert (await release.live(release.rendered({}))).keys() == before.keys()


async def fail_the_check(release: Release) -> None:
    """Say of the hook's Job, once it is there, what its controller says where a sidecar was found."""
    path = f"/apis/batch/v1/namespaces/{release.namespace}/jobs/doorward-uninstall-check"
    failed = {"status": "True", "reason": "BackoffLimitExceeded", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    conditions = [{"type": each, **failed} for each in ("FailureTarget", "Failed")]
    status = {"startTime": "2026-01-01T00:00:00Z", "failed": 1, "conditions": conditions}
    with trio.fail_after(60):
        while True:
            try:
                await release.kube.api.patch(f"{path}/status", {"status": status})
            except ApiRefused as error:
                if error.status != 404:
                    raise
                await trio.sleep(0.1)
            else:
                return


async def test_the_notes_say_what_to_do_next(release: Release) -> None:
    notes = await release.apply("install", {})
    for wanted in (
        "kubectl label namespace",
        "rollout restart",
        "AllowPolicy",
        "injection audit",
        "Before an uninstall",
    ):
        assert wanted in notes
    assert "meshCIDRs is empty" in notes
    assert "image.registry is empty" in notes
    notes = await release.apply(
        "upgrade",
        {
            "image": {"registry": "registry.example"},
            "injector": {"meshCIDRs": ["10.0.0.0/8"]},
            "persistence": {"enabled": False},
        },
    )
    assert "meshCIDRs is empty" not in notes
    assert "image.registry is empty" not in notes
    assert "persistence is off" in notes


async def test_the_policies_of_the_notes_are_taken(release: Release) -> None:
    notes = await release.apply("install", {})
    await until_defined(release.kube.cluster)
    shop = await release.kube.namespace("shop")
    documents = [part.partition("POLICY\n")[0] for part in notes.split("<<'POLICY'\n")[1:]]
    assert len(documents) == 2
    for document in documents:
        plain = yaml.safe_load(document.replace("NAMESPACE", shop))
        done = await release.kube.cluster.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(plain))
        assert done.exit == 0, done.err


async def test_the_production_profile_is_taken(release: Release) -> None:
    # The kinds of the Prometheus operator are not defined here.
    monitoring = {name: {"enabled": False} for name in ("serviceMonitor", "podMonitor", "prometheusRule")}
    values = yaml.safe_load(PRODUCTION.read_text()) | {"monitoring": {**monitoring, "dashboard": {"enabled": True}}}
    await release.apply("install", values)
    await check_all_there(release, values)
    assert "PodDisruptionBudget/doorward" in await release.live(release.rendered(values))


async def test_wrong_values_create_nothing(release: Release) -> None:
    file = values_file(release.directory, {"injector": {"egress": "?"}})
    command = ("install", "doorward", str(CHART), "-n", release.namespace, "-f", str(file))
    done = await release.kube.cluster.helm(*command)
    assert done.exit != 0
    assert "at '/injector/egress'" in done.err
    assert await release.live(release.rendered({})) == {}


async def test_an_upgrade_puts_right_what_somebody_changed(release: Release) -> None:
    await release.apply("install", {})
    weakened = {"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Ignore"}
    await release.kube.api.patch(WEBHOOK, [weakened], kind="json")
    await release.apply("upgrade", {})
    await check_all_there(release, {})
