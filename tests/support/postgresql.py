"""A real PostgreSQL for the store's tests, with a database of its own for each of them."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from tempfile import TemporaryDirectory
from typing import Any

import sqlalchemy as sa

from tests.support.stock import program

NAMES = count(1)


@contextmanager
def running_postgresql() -> Iterator[sa.URL]:
    """A server with data and socket in a directory of its own, by the URL of its own database. Skips the test where
    PostgreSQL is not installed."""
    initdb, postgres = program("initdb"), program("postgres")
    with TemporaryDirectory(prefix="doorward-postgresql-") as directory:
        somebody: dict[str, Any] = {}
        if os.geteuid() == 0:  # initdb refuses root
            somebody = {"user": "postgres", "group": "postgres", "extra_groups": []}
            shutil.chown(directory, "postgres", "postgres")
        initialise = [initdb, "-D", f"{directory}/data", "-A", "trust", "-U", "doorward", "--no-sync"]
        subprocess.run(initialise, check=True, stdout=subprocess.DEVNULL, **somebody)
        # Its own workers come to template1 too, and a database is copied from it only where nobody else is there.
        quiet = ["-F", "-c", "autovacuum=off"]
        command = [postgres, "-D", f"{directory}/data", "-h", "", "-k", directory, *quiet]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL, **somebody) as server:
            try:
                yield _reached(sa.make_url(f"postgresql+psycopg://doorward@/postgres?host={directory}"))
            finally:
                server.send_signal(signal.SIGINT)  # its SIGTERM would wait for whoever a failed test left connected


def new_database(server: sa.URL) -> str:
    """The URL of an empty database on that server."""
    name = f"store{next(NAMES)}"
    engine = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return server.set(database=name).render_as_string(hide_password=False)


def _reached(server: sa.URL) -> sa.URL:
    engine = sa.create_engine(server)
    deadline = time.monotonic() + 60
    while True:
        try:
            engine.connect().close()
        except sa.exc.OperationalError:
            assert time.monotonic() < deadline, "PostgreSQL does not answer"
            time.sleep(0.1)
        else:
            engine.dispose()
            return server
