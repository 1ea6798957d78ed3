"""Opening a database, bringing its tables up to date, and transactions on it.

SQLite runs with a write-ahead log, foreign keys and `synchronous=FULL`: what was committed survives a power cut.
A writing transaction takes the database's write lock at its start and then the row of `house`, so two changes never
interleave, whether they come from two threads or, on PostgreSQL, from two machines. A reading one sees one moment.
Everything that SQLAlchemy or a driver raises leaves here as StoreError.
"""

import json
import os
import sqlite3
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from attrs import frozen
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from certs.spiffe import TrustDomain
from control_plane.store.errors import StoreError
from control_plane.store.retention import Retention
from control_plane.store.schema import house

MIGRATED: Final = "alembic_version"  # the table in which Alembic notes how far a database is
_BACKUP: Final = "; bring it back from a backup"
_BUSY_SECONDS: Final = 15  # how long another process, such as a backup, may hold the write lock

_READING: Final[dict[str, dict[str, Any]]] = {
    "sqlite": {"doorward_begin": "BEGIN"},
    "postgresql": {"isolation_level": "REPEATABLE READ"},
}
_WRITING: Final[dict[str, dict[str, Any]]] = {
    "sqlite": {"doorward_begin": "BEGIN IMMEDIATE"},
    "postgresql": {"isolation_level": "READ COMMITTED"},
}

_migrating = threading.Lock()  # Alembic keeps the migration that runs in a global


@frozen
class Transaction:
    """What a concern works with: the open connection, the one time of this transaction, whose store it is, and how
    much of the past it keeps."""

    connection: sa.Connection
    now: datetime
    trust_domain: TrustDomain
    retention: Retention


class Database:
    """An engine and the two kinds of transactions on it."""

    def __init__(
        self, engine: sa.Engine, trust_domain: TrustDomain, clock: Callable[[], datetime], retention: Retention
    ) -> None:
        self._engine = engine
        self._trust_domain = trust_domain
        self._clock = clock
        self._retention = retention
        self._turn = threading.Lock()

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """A transaction that sees one moment of the store. Raises StoreError."""
        with self._transaction(_READING) as tx:
            yield tx

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """A transaction that is alone in changing the store; an exception undoes it. Raises StoreError."""
        with self.write_unlocked() as tx:
            tx.connection.execute(sa.select(house.c.id).with_for_update())
            yield tx

    @contextmanager
    def write_unlocked(self) -> Iterator[Transaction]:
        """As `write`, for the time when there is no row of `house` yet."""
        with self._turn, self._transaction(_WRITING) as tx:
            yield tx

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    @contextmanager
    def _transaction(self, how: dict[str, dict[str, Any]]) -> Iterator[Transaction]:
        try:
            with self._engine.connect() as connection:
                connection.execution_options(**how[self._engine.dialect.name])
                with connection.begin():
                    yield Transaction(connection, self._clock(), self._trust_domain, self._retention)
        except SQLAlchemyError as error:
            raise StoreError(f"the store failed: {_cause(error)}{_advice(error)}") from error
        except json.JSONDecodeError as error:
            raise StoreError("a row of the store is damaged: bring the store back from a backup") from error
        except UnicodeEncodeError as error:
            raise StoreError(f"the text {error.object[:80]!r} is not valid Unicode", code="bad_text") from error


def connect(url: str) -> sa.Engine:
    """An engine for `url`; an SQLite file is made, mode 0600, where there is none. Raises StoreError."""
    try:
        parsed = sa.make_url(url)
        if parsed.get_backend_name() not in _WRITING:
            raise StoreError(f"{parsed.get_backend_name()!r} cannot hold the store: use sqlite or postgresql")
        if parsed.get_backend_name() == "postgresql":
            return sa.create_engine(parsed, pool_pre_ping=True)
        _make_file(parsed)
        engine = sa.create_engine(parsed, connect_args={"timeout": _BUSY_SECONDS})
    except (ArgumentError, NoSuchModuleError) as error:
        raise StoreError(f"the store's URL cannot be used: {_cause(error)}") from None
    except ModuleNotFoundError as error:
        install = "'doorward[postgresql]'" if error.name == "psycopg" else error.name
        raise StoreError(f"the store's URL needs a driver that is not here: pip install {install}") from None
    sa.event.listen(engine, "connect", _prepare_sqlite)
    sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def migrate(connection: sa.Connection) -> None:
    """Run the pending migrations in the connection's transaction. Raises StoreError for tables of a newer Doorward."""
    config = Config()
    config.set_main_option("script_location", "control_plane.store:migrations")
    config.attributes["connection"] = connection
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if unknown := set(MigrationContext.configure(connection).get_current_heads()) - known:
        raise StoreError(
            f"a newer Doorward has migrated this store (to {', '.join(sorted(unknown))}): run that version, "
            "or bring back a backup from before",
            code="newer_schema",
        )
    with _migrating:
        command.upgrade(config, "head")


def _make_file(url: sa.URL) -> None:
    if not url.database or url.database == ":memory:":
        raise StoreError("the store must outlive the process: give a file, as in sqlite:////var/lib/doorward/store.db")
    try:
        descriptor = os.open(url.database, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StoreError(f"the store {url.database} cannot be opened: {error.strerror}") from None
    try:
        status = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid != os.geteuid():
        raise StoreError(f"the store {url.database} belongs to user id {status.st_uid}, not to {os.geteuid()}")
    if mode & 0o077:
        raise StoreError(
            f"the store {url.database} has mode {mode:04o}: others on this machine may use it. "
            f"If nobody has, run: chmod 600 {url.database}"
        )
    if status.st_size:
        _check_ours(url.database)


def _check_ours(path: str) -> None:
    """An SQLite database with our tables in it, or none; looked at without a change to it. Raises StoreError."""
    try:
        with closing(sqlite3.connect(f"{Path(path).absolute().as_uri()}?mode=ro", uri=True)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.DatabaseError as error:
        raise StoreError(f"the store {path} cannot be read: {error}{_BACKUP}") from None
    if tables and MIGRATED not in tables:
        raise StoreError(
            f"{path} is the database of something else (it has a table {min(tables)!r}): choose another file",
            code="foreign_store",
        )


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # the driver begins nothing by itself: _begin_sqlite does
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: sa.Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options()["doorward_begin"])


def _advice(error: SQLAlchemyError) -> str:
    # SQLite raises the bare class for what is no database, or a damaged one; its subclasses say what else went wrong.
    return _BACKUP if type(getattr(error, "orig", None)) is sqlite3.DatabaseError else ""


def _cause(error: SQLAlchemyError) -> object:
    """The driver's own words, without the statement and its parameters, which may hold secrets."""
    return getattr(error, "orig", None) or error.args[0]
