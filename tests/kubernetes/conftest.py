"""What needs a real API server: `make test-kubernetes` runs it, as root. tests/support/cluster.py and kube.py say how.

Each pytest-xdist worker has an API server of its own; tests keep apart by namespaces with new names.
"""

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.cluster import Cluster, require_cluster
from tests.support.kube import Kube, open_kube
from tests.support.namespaces import Pod, require_namespaces

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.kubernetes)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """etcd and kube-apiserver in a network of their own."""
    require_namespaces()
    require_cluster()
    with tempfile.TemporaryDirectory(prefix="dw-kubernetes-") as directory:
        cluster = Cluster.start(Path(directory))
        try:
            yield cluster
        finally:
            cluster.stop()


@pytest.fixture
async def kube(cluster: Cluster, tmp_path: Path) -> AsyncIterator[Kube]:
    """The administrator's hand on it, for one test."""
    async with open_kube(cluster, tmp_path) as kube:
        yield kube


@pytest.fixture
async def place(cluster: Cluster) -> Pod:
    """A network namespace on the API server's network, such as for a control plane."""
    return await cluster.network.pod("place")
