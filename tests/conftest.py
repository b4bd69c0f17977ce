"""A real PostgreSQL for every test: one server and one migrated template per session, a copy of it per test.

The server is the embedded one, or that of ANJUAN_TEST_DATABASE_URL: connection string of a superuser of any
PostgreSQL >= 15.
"""

from __future__ import annotations

import itertools
import os
import string
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from api.cluster import LOGIN, OWNER
from api.embedded import Embedded
from migrations.runner import migrate

if TYPE_CHECKING:
    from domain.store.casebook import Casebook, House

OPTIONS = "-c search_path=anjuan -c timezone=UTC"
MASTER_KEY = bytes(range(32))
"""The key that wraps the subjects' keys in every test."""


@dataclass(frozen=True)
class Database:
    """One database: connection strings of the role that migrates and owns it, and of the application."""

    name: str
    owner: str
    app: str


class Server:
    """Where the tests' databases are made; `admin` is a superuser's connection string."""

    def __init__(self, admin: str, embedded: Embedded | None = None) -> None:
        self.admin = admin
        self.embedded = embedded
        self._names = (f"anjuan_test_{os.getpid()}_{number}" for number in itertools.count(1))

    def database(self, name: str) -> Database:
        if self.embedded is not None:
            return Database(name, self.embedded.conninfo(OWNER, name), self.embedded.conninfo(LOGIN, name))
        owner = make_conninfo(self.admin, dbname=name, options=OPTIONS)
        return Database(name, owner, make_conninfo(owner, options=f"-c role=anjuan_app {OPTIONS}"))

    def create(self, template: Database | None = None) -> Database:
        """A fresh database: empty, or a copy of another, to which nobody may be connected."""
        database = self.database(next(self._names))
        with psycopg.connect(self.admin, autocommit=True) as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                    sql.Identifier(database.name), sql.Identifier(template.name if template else "template0")
                )
            )
        return database

    def drop(self, database: Database) -> None:
        with psycopg.connect(self.admin, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(database.name)))


@contextmanager
def reachable_directory() -> Generator[Path]:
    """A directory that the account of a server can reach: pytest's are 0700, and root's server is another user."""
    with tempfile.TemporaryDirectory(prefix="anjuan-test-", dir="/tmp") as name:
        path = Path(name)
        path.chmod(0o711)
        yield path


@pytest.fixture
def place() -> Generator[Path]:
    """A fresh directory for an embedded server of the test's own."""
    with reachable_directory() as path:
        yield path


@pytest.fixture(scope="session")
def server() -> Generator[Server]:
    """The server of this session; fsync is off, since no test here is about the machine's own crashes."""
    if given := os.environ.get("ANJUAN_TEST_DATABASE_URL"):
        yield Server(given)
        return
    with reachable_directory() as path, Embedded(path / "server", durable=False) as embedded:
        yield Server(embedded.conninfo(OWNER, "postgres"), embedded)


@pytest.fixture(scope="session")
def template(server: Server) -> Generator[Database]:
    """A migrated database that nobody connects to; copies of it are cheap."""
    database = server.create()
    migrate(database.owner)
    yield database
    server.drop(database)


@pytest.fixture
def empty_database(server: Server) -> Generator[Database]:
    """A fresh database without any migration."""
    database = server.create()
    yield database
    server.drop(database)


@pytest.fixture
def database(server: Server, template: Database) -> Generator[Database]:
    """A fresh, migrated database."""
    copy = server.create(template)
    yield copy
    server.drop(copy)


@pytest.fixture(scope="session")
def shared_database(server: Server, template: Database) -> Generator[Database]:
    """One migrated database for all tests that keep to an institution of their own."""
    copy = server.create(template)
    yield copy
    server.drop(copy)


@pytest.fixture(scope="session")
def house(shared_database: Database) -> Generator[House]:
    """The store on the shared database, as the application."""
    from domain.store.casebook import House

    with House(shared_database.app, MASTER_KEY) as opened:
        yield opened


@pytest.fixture
def institution() -> str:
    """The code of an institution nobody has used."""
    return next(_codes)


@pytest.fixture
def casebook(house: House, institution: str) -> Casebook:
    """The casebook of an institution of the test's own, on the shared database."""
    return house.casebook(institution)


_codes = ("T" + "".join(letters) for letters in itertools.product(string.ascii_uppercase, repeat=4))
