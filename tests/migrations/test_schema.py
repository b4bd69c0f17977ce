"""The schema is the sum of the migrations, whichever version it began with, and guards what was recorded."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import psycopg
import pytest
from psycopg import errors

import migrations
from domain.store.casebook import application_conninfo
from migrations.runner import migrate
from migrations.schema import describe, expected
from migrations.script import migrations as shipped
from tests.conftest import Database, Server

SHIPPED = Path(migrations.__file__).parent
EVENT = """
INSERT INTO event (institution, position, originator_id, originator_version, event_id, command_id, actor, occurred_at,
                   recorded_at, topic, state)
VALUES ('TX', 1, gen_random_uuid(), 1, gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), now(), now(), 't', '{}')
"""


def test_the_schema_is_the_committed_one(database: Database) -> None:
    """`make schema` writes it anew after a migration was added; the difference is what the migration does."""
    found = describe(database.owner)
    if os.environ.get("ANJUAN_WRITE_SCHEMA"):
        (SHIPPED / "schema.txt").write_text(found)
    assert found.splitlines() == expected().splitlines()


def test_every_older_version_with_data_comes_to_the_same_schema(server: Server, tmp_path: Path) -> None:
    """test-list 48: migrating from every earlier schema, with an event in it; applying again changes nothing."""
    files = [migration.file for migration in shipped()]
    for count in range(1, len(files)):
        older = tmp_path / str(count)
        older.mkdir()
        for file in files[:count]:
            shutil.copy(SHIPPED / file, older)
        database = server.create()
        assert [migration.file for migration in migrate(database.owner, source=older)] == files[:count]
        with psycopg.connect(database.owner) as connection:
            connection.execute(EVENT)
            before = connection.execute("SELECT * FROM event").fetchall()
        assert [migration.file for migration in migrate(database.owner)] == files[count:]
        assert migrate(database.owner) == []
        assert describe(database.owner) == expected()
        with psycopg.connect(database.owner) as connection:
            assert connection.execute("SELECT * FROM event").fetchall() == before
        server.drop(database)


@pytest.mark.parametrize("change", ["UPDATE event SET topic = 'x'", "DELETE FROM event", "TRUNCATE event"])
def test_no_event_is_changed_by_anybody(database: Database, change: str) -> None:
    """By trigger for the owner, by privilege for the application."""
    with psycopg.connect(database.owner, autocommit=True) as connection:
        connection.execute(EVENT)
        with pytest.raises(errors.RestrictViolation):
            connection.execute(change.encode())
        with pytest.raises(errors.RestrictViolation):
            connection.execute(b"SET session_replication_role = replica; " + change.encode())
    application = psycopg.connect(application_conninfo(database.app), autocommit=True)
    with application as connection, pytest.raises(errors.InsufficientPrivilege):
        connection.execute(change.encode())
    with psycopg.connect(database.owner) as connection:
        assert connection.execute("SELECT count(*) FROM event").fetchone() == (1,)


def test_the_application_may_only_add_and_read_events(database: Database) -> None:
    lines = describe(database.owner).splitlines()
    grants = [line.split()[1] for line in lines if line.endswith(" on table event to anjuan_app")]
    assert grants == ["INSERT", "SELECT"]
