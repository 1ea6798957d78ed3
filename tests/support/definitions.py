"""The definitions of policies in an API server: the chart's brought there, and taken away again."""

import json
from typing import Final

import trio

from control_plane.kubernetes.api import KubernetesApi
from control_plane.kubernetes.errors import ApiRefused
from control_plane.resources.objects import PLURALS
from tests.support.charts import render
from tests.support.cluster import Cluster
from tests.support.kube import client
from tests.support.patience import PATIENCE
from tests.support.unmaking import unmake

CRDS: Final = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
VERSION: Final = "/apis/doorward.dev/v1"
DEFINED: Final = {f"{plural}.doorward.dev": plural for plural in PLURALS.values()}
"""The names of the definitions, and what each one's objects are called."""


async def define_policies(cluster: Cluster) -> None:
    """Apply the three definitions and return when the API server answers for them."""
    every = json.dumps({"apiVersion": "v1", "kind": "List", "items": render().of("CustomResourceDefinition")})
    apply = ("apply", "--server-side", "--force-conflicts", "-f", "-")
    applied = await cluster.kubectl(*apply, stdin=every, seconds=180.0)  # the first call after its start
    assert applied.exit == 0, applied.err
    await until_defined(cluster)


async def until_defined(cluster: Cluster) -> None:
    """Return when the API server answers for all three, as it does some time after they were made."""
    async with client(cluster, cluster.admin_token_file) as api:
        for name in DEFINED:
            await _ready(api, name)


async def undefine_policies(cluster: Cluster) -> None:
    """Delete those that are there, and with them every object, and return when they are gone."""
    async with client(cluster, cluster.admin_token_file) as api:
        for name in await _found(api):
            # The API server opens the store of a definition when it is first asked for. One that it finds not yet
            # open in a deletion it may leave standing for minutes: kubernetes' crd_finalizer.go, `sync`.
            await _ready(api, name)
            await unmake(api, f"{CRDS}/{name}")
        with trio.fail_after(PATIENCE):
            while await _found(api):
                await trio.sleep(0.1)


async def _found(api: KubernetesApi) -> set[str]:
    return {each["metadata"]["name"] for each in (await api.get(CRDS))["items"]} & DEFINED.keys()


async def _ready(api: KubernetesApi, name: str) -> None:
    """Return when the objects of the definition can be listed, and kubectl finds their kind."""
    with trio.fail_after(PATIENCE):
        while not await _is_ready(api, name):
            await trio.sleep(0.1)


async def _is_ready(api: KubernetesApi, name: str) -> bool:
    try:
        definition = await api.get(f"{CRDS}/{name}")
        known = await api.get(VERSION)
        await api.get(f"{VERSION}/{DEFINED[name]}", limit="1")
    except ApiRefused as refused:
        if refused.status not in (404, 429):
            raise
        return False
    # What is not established yet was listed of a former one of that name, which the API server still believed in.
    said = definition.get("status", {}).get("conditions") or ()
    conditions = {each["type"]: each["status"] for each in said}
    return conditions.get("Established") == "True" and DEFINED[name] in {each["name"] for each in known["resources"]}
