"""Both images, made once for this directory by the very steps of the Dockerfile. Needs root and the network."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.support.dockerfile import CHECKOUT, Image, build

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything below this directory is `image`, and all of it runs in one process, which makes the images once."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.image)


@pytest.fixture(scope="session")
def work() -> Iterator[Path]:
    """Where the images' files are, on a disk and readable by every user."""
    with TemporaryDirectory(prefix="doorward-image-") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


@pytest.fixture(scope="session")
def images(work: Path) -> dict[str, Image]:
    """Every stage of the Dockerfile."""
    return build(CHECKOUT / "Dockerfile", ["sidecar", "control-plane"], work)


@pytest.fixture
def sidecar(images: dict[str, Image]) -> Image:
    """The target `sidecar`."""
    return images["sidecar"]


@pytest.fixture
def control_plane(images: dict[str, Image]) -> Image:
    """The target `control-plane`."""
    return images["control-plane"]
