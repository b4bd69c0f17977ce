"""Row-level security: every table of an institution is under it, and each role may do its own work and no other's."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import Connection, sql
from psycopg.conninfo import make_conninfo
from psycopg.errors import InsufficientPrivilege

from domain.store.casebook import House, conninfo_as
from domain.store.tenant import SET_INSTITUTION, SETTING
from migrations.runner import migrate
from migrations.script import MigrationError
from projections.rebuild import rebuild
from projections.runner import catch_up
from projections.schema import ddl
from projections.verify import verify
from tests.conftest import MASTER_KEY, OPTIONS, Database, Server
from tests.projections.parcel import EVERY, PARCELS, ParcelSent, stamp

ROLES = ("anjuan_app", "anjuan_reader", "anjuan_runner")
UNTOLD = """
    SELECT c.relname, c.relrowsecurity AND c.relforcerowsecurity,
           array(SELECT format('%s %s %s %s', polname, polcmd, polroles::regrole[]::text,
                               pg_get_expr(polqual, polrelid))
                 FROM pg_policy WHERE polrelid = c.oid ORDER BY polname)
    FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid
    WHERE a.attname = 'institution' AND NOT a.attisdropped AND c.relkind IN ('r', 'p')
      AND c.relnamespace = 'anjuan'::regnamespace
    ORDER BY 1
"""


def secured(owner: str) -> dict[str, tuple[bool, list[str]]]:
    """The tables with an institution: whether row-level security is on and forced, and their policies."""
    with psycopg.connect(owner) as connection:
        return {name: (forced, policies) for name, forced, policies in connection.execute(UNTOLD.encode())}


@contextmanager
def working(database: Database, role: str, institution: str | None = None) -> Generator[Connection[Any]]:
    with psycopg.connect(conninfo_as(database.app, role)) as connection:
        if institution is not None:
            connection.execute(SET_INSTITUTION, (institution,))
        yield connection


@pytest.fixture
def two(database: Database) -> Database:
    """A database in which ONE and TWO have an event each, by the same stream's id."""
    with House(database.app, MASTER_KEY) as house:
        for code in ("ONE", "TWO"):
            house.casebook(code).append(sent(UUID(int=7)))
    return database


def sent(id: UUID) -> ParcelSent:
    return ParcelSent(originator_id=id, originator_version=1, stamp=replace(stamp(1), command_id=uuid4()), number="P1")


POLICIES = [
    "every_institution * {anjuan_runner} true",
    "one_institution * {-} (institution = current_setting('anjuan.institution'::text, true))",
]


def test_every_table_of_an_institution_is_under_row_level_security(database: Database) -> None:
    """test-list 35: a new table that forgets `keep_apart` fails here."""
    found = secured(database.owner)
    assert {"event", "subject_key", "tracking", "complaint_case", "api_token", "read_log"} <= found.keys()
    assert [name for name, (forced, _) in found.items() if not forced] == []
    assert {name: policies for name, (_, policies) in found.items() if policies != POLICIES} == {}


def test_a_rebuilt_table_is_under_it_as_before_and_nobody_else_sees_it_meanwhile(parcel_database: Database) -> None:
    before = secured(parcel_database.owner)
    seen: list[tuple[bool, list[str]]] = []

    def look(_done: int, _total: int) -> None:
        with psycopg.connect(parcel_database.owner) as connection:
            rows = connection.execute(
                "SELECT has_table_privilege(role, 'parcel__next', 'SELECT') FROM unnest(%s::text[]) AS role",
                (list(ROLES),),
            ).fetchall()
        seen.append((True, [str(row[0]) for row in rows]))

    with House(parcel_database.app, MASTER_KEY) as house:
        house.casebook("ONE").append(sent(uuid4()))
        catch_up(house, EVERY)
        assert rebuild(house, PARCELS, owner=parcel_database.owner, progress=look).switched
    assert seen[0] == (True, ["False", "False", "True"])
    assert secured(parcel_database.owner) == before


@pytest.mark.parametrize("role", ["anjuan_app", "anjuan_reader"])
def test_who_has_said_no_institution_sees_nothing_and_who_has_said_one_sees_that(two: Database, role: str) -> None:
    for institution, count in ((None, 0), ("", 0), ("one", 0), ("ONE", 1), ("TWO", 1), ("THREE", 0)):
        with working(two, role, institution) as connection:
            for table in ("event", "institution_position"):
                rows = connection.execute(f"SELECT institution FROM {table}".encode()).fetchall()
                assert rows == [(institution,)] * count, (institution, table)
    with working(two, "anjuan_runner") as connection:
        assert connection.execute("SELECT count(*) FROM event").fetchone() == (2,)


def test_the_setting_ends_with_the_transaction(two: Database) -> None:
    with working(two, "anjuan_reader", "ONE") as connection:
        assert connection.execute("SELECT count(*) FROM event").fetchone() == (1,)
        connection.commit()
        assert connection.execute("SELECT count(*) FROM event").fetchone() == (0,)


@pytest.mark.parametrize("institution", [None, "TWO"])
def test_nothing_is_added_to_an_institution_that_was_not_said(two: Database, institution: str | None) -> None:
    with working(two, "anjuan_app", institution) as connection, pytest.raises(InsufficientPrivilege, match="row-level"):
        connection.execute("INSERT INTO institution_position VALUES ('ONEX', 0, now())")
    with working(two, "anjuan_app", institution) as connection:
        moved = connection.execute("UPDATE institution_position SET position = 99 WHERE institution = 'ONE'")
        assert moved.rowcount == 0
    with working(two, "anjuan_app", institution) as connection, pytest.raises(InsufficientPrivilege, match="row-level"):
        connection.execute(
            "INSERT INTO event SELECT 'ONE', 9, %s, 1, %s, %s, %s, now(), now(), 't', ''", [uuid4() for _ in range(4)]
        )


def test_a_connection_of_the_store_carries_no_institution_into_the_pool(two: Database) -> None:
    with House(two.app, MASTER_KEY, pool_max=1) as house:
        one = house.casebook("ONE")
        one.append(sent(uuid4()))
        one.append_many([[sent(uuid4())]])
        one.recorder.events_of(UUID(int=7))
        assert one.head() == 3
        with one.recorder.turn():
            pass
        with house.within("ONE") as connection:
            assert connection.execute("SELECT count(*) FROM event").fetchone() == (3,)
        with pytest.raises(RuntimeError), house.within("ONE"):
            raise RuntimeError
        with house.pool.connection() as connection:
            said = connection.execute("SELECT current_setting(%s, true)", (SETTING,)).fetchone()
            assert said in ((None,), ("",))
            assert connection.execute("SELECT count(*) FROM event").fetchone() == (0,)


CHANGES = ("INSERT INTO {0} SELECT * FROM {0}", "UPDATE {0} SET institution = institution", "DELETE FROM {0}")
VIEWED = ("complaint_case", "complaint_clock", "history", "broken_glass", "tracking", "parked")


@pytest.mark.parametrize(
    ("role", "tables"),
    [
        ("anjuan_reader", ("event", "institution_position", *VIEWED)),
        ("anjuan_app", (*VIEWED, "rebuild")),
    ],
)
def test_who_looks_writes_nothing_and_who_commands_writes_no_view(
    database: Database, role: str, tables: tuple[str, ...]
) -> None:
    for table in tables:
        for change in CHANGES:
            with working(database, role, "ONE") as connection, pytest.raises(InsufficientPrivilege, match="permission"):
                connection.execute(change.format(table).encode())


@pytest.mark.parametrize("table", ["subject_key", "local_user"])
def test_questions_reach_no_keys_and_no_passwords(database: Database, table: str) -> None:
    with working(database, "anjuan_reader", "ONE") as connection, pytest.raises(InsufficientPrivilege):
        connection.execute(f"SELECT FROM {table}".encode())


def test_an_owner_that_is_no_superuser_migrates_follows_rebuilds_and_verifies(server: Server) -> None:
    """Nobody needs BYPASSRLS; an owner that may make no members is told what an administrator is to run."""
    name = f"anjuan_plain_{uuid4().hex[:8]}"
    role = sql.Identifier(name)
    with psycopg.connect(server.admin, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(role))
        admin.execute(sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE template0").format(role, role))
        database = server.database(name)
        owner = make_conninfo(database.owner, options=f"-c role={name} {OPTIONS}")
        try:
            migrate_as(owner, refused=f"GRANT anjuan_runner TO {name}")
            admin.execute(sql.SQL("GRANT anjuan_runner TO {}").format(role))
            migrate_as(owner)
            with psycopg.connect(owner, autocommit=True) as connection:
                for view in EVERY:
                    connection.execute(ddl(view).encode())
            with House(database.app, MASTER_KEY) as house:
                for code in ("ONE", "TWO"):
                    house.casebook(code).append_many([[sent(uuid4())] for _ in range(9)])
                assert catch_up(house, EVERY) > 0
                for view in EVERY:
                    assert rebuild(house, view, owner=owner).switched
                    assert verify(house, view).ok
            with psycopg.connect(owner) as connection:
                bypass = connection.execute(
                    "SELECT rolbypassrls FROM pg_roles WHERE rolname = ANY(%s)", ([*ROLES, name],)
                )
                assert set(bypass.fetchall()) == {(False,)}
        finally:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(role))
            admin.execute(sql.SQL("DROP ROLE {}").format(role))


def migrate_as(owner: str, *, refused: str | None = None) -> None:
    if refused is None:
        migrate(owner)
        return
    with pytest.raises(MigrationError, match=refused):
        migrate(owner)
