"""Before a test here starts anything: are the stock programs that it names by `peers(…)` on this machine?"""

import pytest

from tests.support.stock import program


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip the test, or fail it in CI, for each program that it needs and that is not there."""
    for marker in item.iter_markers("peers"):
        for name in marker.args:
            program(name)
