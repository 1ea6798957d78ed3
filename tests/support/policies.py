"""Policies for end-to-end tests, applied with the real command line and enforced before the test goes on."""

import json
from typing import Any

from examples.demo.local_mesh import LocalMesh


def allow_policy(source: str, target: str, port: int, *, http: bool = True, namespace: str = "shop") -> dict[str, Any]:
    """The document that lets workload `source` call `target`: any request where `http`, else any traffic."""
    spec: dict[str, Any] = {"to": {"workload": target, "ports": [port]}, "from": [{"workload": source}]}
    if http:
        spec["http"] = [{"methods": ["*"], "paths": ["/*"]}]
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
    """Apply the documents and wait until every sidecar concerned enforces them. JSON is YAML."""
    text = "\n---\n".join(json.dumps(each) for each in documents)
    result = await mesh.doorward("policy", "apply", "-f", "-", "--wait", "10", stdin=text.encode())
    assert result.exit == 0, result
