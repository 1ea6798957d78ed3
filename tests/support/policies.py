"""Policies for end-to-end tests, applied through the admin API and enforced before the test goes on."""

from datetime import timedelta
from typing import Any

from control_plane.admin.client import Client
from control_plane.cli.enforcing import wait_until_enforced
from examples.demo.local_mesh import LocalMesh
from tests.support.patience import PATIENCE


def allow_policy(source: str, target: str, port: int, *, http: bool = True, namespace: str = "shop") -> dict[str, Any]:
    """The document that lets workload `source` call `target`: any request where `http`, else any traffic."""
    spec: dict[str, Any] = {"to": {"workload": target, "ports": [port]}, "from": [{"workload": source}]}
    if http:
        spec["http"] = [{"paths": ["/*"]}]
    return {
        "apiVersion": "doorward.dev/v1",
        "kind": "AllowPolicy",
        "metadata": {"name": f"{source}-calls-{target}", "namespace": namespace},
        "spec": spec,
    }


async def allow(mesh: LocalMesh, source: str, target: str, port: int, *, http: bool = True) -> None:
    """Let `source` call `target`, and wait until that is enforced."""
    await apply(mesh, allow_policy(source, target, port, http=http))


async def apply(mesh: LocalMesh, *documents: dict[str, Any]) -> None:
    """Apply the documents and wait until every sidecar concerned enforces them."""
    put = [{"source": "test", "index": index, "content": each} for index, each in enumerate(documents)]

    def change(client: Client) -> dict[str, Any]:
        return wait_until_enforced(client, client.post("/v1/policies", {"put": put}), timedelta(seconds=PATIENCE))

    enforced = await mesh.admin(change)
    assert enforced["on"] == enforced["of"], enforced
