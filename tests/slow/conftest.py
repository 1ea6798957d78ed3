"""What takes many seconds: load, faults, floods and long lives, each against live processes. `make test-slow` runs it.

Everything stays on loopback, and every loop is bounded in count and time. A test here waits for what happens and not
for the clock: the machine is shared and may be slow.
"""

from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.slow)
