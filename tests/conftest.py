"""Fixtures that every room's tests may ask for."""

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.database import DirectoryBasedExampleDatabase

from examples.demo.local_mesh import LocalMesh, open_local_mesh

# For `make test`: the same examples on every machine, however busy it is: a slow one is no failure.
settings.register_profile("repeatable", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
# For `make fuzz`: fresh ones each time; a failure is kept and tried first the next time.
settings.register_profile(
    "fuzz",
    settings.get_profile("repeatable"),
    derandomize=False,
    max_examples=500,
    stateful_step_count=100,
    database=DirectoryBasedExampleDatabase(Path(__file__).parent.parent / ".hypothesis" / "fuzz"),
    print_blob=True,
)
settings.load_profile("repeatable")


@pytest.fixture
def short_directory() -> Iterator[Path]:
    """An empty directory whose path leaves room for a Unix socket's name (108 bytes)."""
    with tempfile.TemporaryDirectory(prefix="dw-") as directory:
        yield Path(directory)


@pytest.fixture
async def mesh(short_directory: Path) -> AsyncIterator[LocalMesh]:
    """A mesh of real processes whose control plane is ready; the test adds sidecars."""
    async with open_local_mesh(short_directory) as mesh:
        await mesh.start_control_plane()
        yield mesh


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests have to say beside passing: `record_property("said", …)`."""
    reports = [each for group in ("passed", "failed") for each in terminalreporter.getreports(group)]
    for report in reports:
        said = [text for key, text in report.user_properties if key == "said"]
        if said:
            terminalreporter.write_sep("-", report.nodeid)
            terminalreporter.write_line("\n".join(said))
