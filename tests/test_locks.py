"""What is installed in the images is what the tests ran with."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PIN = re.compile(r"^([a-z0-9._-]+)==([^ \\]+)")


def pins(lock: str) -> dict[str, str]:
    """Package names and versions of a lock file."""
    return dict(found.groups() for line in (ROOT / lock).read_text().splitlines() if (found := PIN.search(line)))


@pytest.mark.parametrize("lock", ["image/sidecar.lock", "image/control-plane.lock", "image/build.lock"])
def test_a_lock_of_an_image_agrees_with_that_of_the_tests(lock: str) -> None:
    tested = pins("requirements.lock")
    assert pins(lock)
    assert {name: version for name, version in pins(lock).items() if tested.get(name) != version} == {}


def test_the_image_is_built_by_the_pinned_build_system() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert [f"{name}=={version}" for name, version in pins("image/build.lock").items() if name == "hatchling"] == (
        project["build-system"]["requires"]
    )


def test_the_sidecar_installs_without_the_control_planes_libraries() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = {re.split("[^A-Za-z0-9_-]", each)[0].lower() for each in project["optional-dependencies"]["control-plane"]}
    assert named
    assert named & set(pins("image/sidecar.lock")) == set()
