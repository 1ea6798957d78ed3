"""The admin API over a fresh store, one per test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from control_plane.admin.client import Client
from tests.support.admin import AdminHouse, admin_house


@pytest.fixture
def house(short_directory: Path) -> Iterator[AdminHouse]:
    with admin_house(short_directory) as house:
        yield house


@pytest.fixture
def client(house: AdminHouse) -> Iterator[Client]:
    with house.client() as client:
        yield client
