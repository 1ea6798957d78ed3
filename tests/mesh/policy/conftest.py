"""Short ways to say a policy, so that a test shows only what it is about."""

from collections.abc import Callable
from typing import Any

import pytest

from mesh.policy import Document, PolicySet, read_policies

Make = Callable[..., dict[str, Any]]


@pytest.fixture
def policy() -> Make:
    """Make a policy's document: frontend may call payments in shop, unless said otherwise."""

    def make(name: str = "p", *, kind: str = "AllowPolicy", namespace: str = "shop", **spec: Any) -> dict[str, Any]:
        source = spec.pop("source", [{"workload": "frontend"}])
        return {
            "apiVersion": "doorward.dev/v1",
            "kind": kind,
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"to": {"workload": "payments"}, "from": source, **spec},
        }

    return make


@pytest.fixture
def defaults() -> Make:
    """Make the document of a namespace's defaults."""

    def make(namespace: str = "shop", **spec: Any) -> dict[str, Any]:
        metadata = {"name": "defaults", "namespace": namespace}
        return {"apiVersion": "doorward.dev/v1", "kind": "NamespaceDefaults", "metadata": metadata, "spec": spec}

    return make


@pytest.fixture
def read() -> Callable[..., PolicySet]:
    """Read documents that stand in one file."""

    def read(*contents: object) -> PolicySet:
        return read_policies(Document("shop.yaml", index, each) for index, each in enumerate(contents, 1))

    return read
