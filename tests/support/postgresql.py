"""A real PostgreSQL for the store's tests, with a database of its own for each of them."""

import os
import pwd
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.support.stock import free_port, program

NAMES = count(1)


@contextmanager
def running_postgresql(directory: Path) -> Iterator[str]:
    """A server with its data in `directory`: its URL without a database. Skips where the driver is not installed."""
    pytest.importorskip("psycopg", reason="the driver psycopg is not installed: pip install psycopg")
    initdb, postgres, port = program("initdb"), program("postgres"), free_port()
    somebody: dict[str, Any] = {}
    if os.geteuid() == 0:  # initdb refuses root
        _let_in(directory, "postgres")
        somebody = {"user": "postgres", "group": "postgres", "extra_groups": []}
    initialise = [initdb, "-D", str(directory), "-A", "trust", "-U", "doorward", "--no-sync"]
    subprocess.run(initialise, check=True, stdout=subprocess.DEVNULL, **somebody)
    options = ["-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={directory}", "-c", "fsync=off"]
    command = [postgres, "-D", str(directory), "-p", str(port), *options]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, **somebody) as server:
        url = f"postgresql+psycopg://doorward@127.0.0.1:{port}"
        try:
            _wait_for(f"{url}/postgres")
            yield url
        finally:
            server.terminate()


def new_database(url: str) -> str:
    """The URL of an empty database on the server at `url`."""
    name = f"store{next(NAMES)}"
    engine = sa.create_engine(f"{url}/postgres", isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return f"{url}/{name}"


def _let_in(directory: Path, user: str) -> None:
    """`directory` belongs to `user`, who may pass through those above it."""
    shutil.chown(directory, pwd.getpwnam(user).pw_uid)
    for above in directory.parents:
        if above.stat().st_uid == os.geteuid() and not above.stat().st_mode & 0o001:
            above.chmod(above.stat().st_mode | 0o001)


def _wait_for(url: str) -> None:
    engine = sa.create_engine(url)
    for _ in range(100):
        try:
            with engine.connect():
                break
        except sa.exc.OperationalError:
            time.sleep(0.1)
    engine.dispose()
