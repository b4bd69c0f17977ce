"""A database with the made-up parcels' tables, for the tests of the views' machinery."""

from __future__ import annotations

from collections.abc import Generator

import psycopg
import pytest

from domain.store.casebook import House
from projections.schema import ddl
from tests.conftest import MASTER_KEY, Database, Server
from tests.projections.parcel import EVERY


@pytest.fixture(scope="session")
def parcel_template(server: Server, template: Database) -> Generator[Database]:
    copy = server.create(template)
    with psycopg.connect(copy.owner, autocommit=True) as connection:
        for view in EVERY:
            connection.execute(ddl(view).encode())
    yield copy
    server.drop(copy)


@pytest.fixture
def parcel_database(server: Server, parcel_template: Database) -> Generator[Database]:
    """A fresh database with the parcels' tables."""
    copy = server.create(parcel_template)
    yield copy
    server.drop(copy)


@pytest.fixture
def parcels(parcel_database: Database) -> Generator[House]:
    """The store on a fresh database with the parcels' tables."""
    with House(parcel_database.app, MASTER_KEY) as house:
        yield house


@pytest.fixture(scope="session")
def parcels_shared(server: Server, parcel_template: Database) -> Generator[House]:
    """One store with the parcels' tables, for tests that keep to an institution of their own."""
    copy = server.create(parcel_template)
    with House(copy.app, MASTER_KEY) as house:
        yield house
    server.drop(copy)
