"""The migration runner: every file once, in order, and nothing that was changed since."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg import sql
from psycopg.conninfo import make_conninfo

from api.embedded import Embedded
from migrations.runner import check, migrate, pending
from migrations.script import MigrationError, migrations, parse
from tests.conftest import Database


def write(place: Path, file: str, up: str, *, options: str = "", down: str = "SELECT 1;") -> Path:
    path = place / file
    path.write_text(f"-- {file}\n\n-- migrate:up {options}\n{up}\n-- migrate:down\n{down}\n")
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    write(tmp_path, "0001_case.sql", "CREATE TABLE tale (n int PRIMARY KEY);\nINSERT INTO tale VALUES (1);")
    write(tmp_path, "0002_more.sql", "INSERT INTO tale SELECT max(n) + 1 FROM tale;", down="DROP TABLE tale;")
    return tmp_path


def tale(database: Database) -> list[int]:
    with psycopg.connect(database.owner) as connection:
        return [n for (n,) in connection.execute("SELECT n FROM anjuan.tale ORDER BY n")]


def files(database: Database) -> list[str]:
    with psycopg.connect(database.owner) as connection:
        rows = connection.execute("SELECT version, name FROM anjuan.schema_migration ORDER BY version")
        return [f"{version:04}_{name}.sql" for version, name in rows]


def test_everything_pending_is_applied_once_and_in_order(empty_database: Database, source: Path) -> None:
    owner = empty_database.owner
    assert [m.file for m in pending(owner, source=source)] == ["0001_case.sql", "0002_more.sql"]
    with pytest.raises(MigrationError, match=r"anjuan migrate.*0001_case\.sql, 0002_more\.sql"):
        check(owner, source=source)
    assert [m.file for m in migrate(owner, source=source)] == ["0001_case.sql", "0002_more.sql"]
    assert migrate(owner, source=source) == []
    check(owner, source=source)
    write(source, "0003_again.sql", "INSERT INTO tale SELECT max(n) + 1 FROM tale;")
    assert [m.file for m in migrate(owner, source=source)] == ["0003_again.sql"]
    assert tale(empty_database) == [1, 2, 3]
    assert files(empty_database) == ["0001_case.sql", "0002_more.sql", "0003_again.sql"]


def test_the_shipped_files_are_all_applied(database: Database) -> None:
    check(database.owner)
    assert files(database) == [migration.file for migration in migrations()]


def test_a_past_that_was_changed_is_refused_and_the_file_named(empty_database: Database, source: Path) -> None:
    owner = empty_database.owner
    migrate(owner, source=source)
    first, second = source / "0001_case.sql", source / "0002_more.sql"
    kept = second.read_bytes()

    second.write_bytes(kept + b"\n")
    with pytest.raises(MigrationError, match=r"0002_more\.sql was edited"):
        migrate(owner, source=source)
    second.rename(source / "0002_other.sql").write_bytes(kept)
    with pytest.raises(MigrationError, match=r"0002_more\.sql .*missing"):
        check(owner, source=source)
    (source / "0002_other.sql").rename(second)
    first.rename(source / "0003_case.sql")
    with pytest.raises(MigrationError, match=r"0001_case\.sql .*missing"):
        pending(owner, source=source)
    (source / "0003_case.sql").rename(first)
    check(owner, source=source)


def test_a_file_numbered_before_one_that_was_applied_is_refused(empty_database: Database, source: Path) -> None:
    (source / "0002_more.sql").rename(source / "0009_more.sql")
    migrate(empty_database.owner, source=source)
    write(source, "0005_late.sql", "SELECT 1;")
    with pytest.raises(MigrationError, match=r"0005_late\.sql comes too late: 0009_more\.sql"):
        migrate(empty_database.owner, source=source)
    assert files(empty_database) == ["0001_case.sql", "0009_more.sql"]


def test_runners_at_once_apply_everything_once(empty_database: Database, source: Path) -> None:
    """One of the files builds an index concurrently, which waits for every snapshot: waiting runners hold none."""
    write(source, "0003_index.sql", "CREATE INDEX CONCURRENTLY tale_n ON tale (n DESC);", options="transaction:false")
    with ThreadPoolExecutor(6) as pool:
        running = [pool.submit(migrate, empty_database.owner, source=source) for _ in range(6)]
        done = [runner.result() for runner in running]
    assert sorted(len(applied) for applied in done) == [0, 0, 0, 0, 0, 3]
    assert tale(empty_database) == [1, 2]


def test_a_failing_migration_leaves_nothing_and_names_its_line(empty_database: Database, source: Path) -> None:
    write(source, "0003_bad.sql", "INSERT INTO tale VALUES (7);\n\nINSERT INTO tale\n  SELECT missing FROM tale;")
    write(source, "0004_never.sql", "INSERT INTO tale VALUES (8);")
    with pytest.raises(MigrationError, match=r'0003_bad\.sql, line 7: column "missing" does not exist'):
        migrate(empty_database.owner, source=source)
    assert tale(empty_database) == [1, 2]
    assert files(empty_database) == ["0001_case.sql", "0002_more.sql"]
    write(source, "0003_bad.sql", "-- a duplicate has no position\n\nINSERT INTO tale VALUES (1);")
    with pytest.raises(MigrationError, match=r"0003_bad\.sql, line 6: duplicate key"):
        migrate(empty_database.owner, source=source)
    write(source, "0003_bad.sql", "INSERT INTO tale VALUES (7);")
    assert [m.version for m in migrate(empty_database.owner, source=source)] == [3, 4]


def test_outside_a_transaction_what_remains_is_said(empty_database: Database, source: Path) -> None:
    up = "INSERT INTO tale VALUES (7);\nINSERT INTO tale VALUES (7);"
    write(source, "0003_bad.sql", up, options="transaction:false")
    with pytest.raises(MigrationError, match=r"0003_bad\.sql, line 5: .*earlier statements remain"):
        migrate(empty_database.owner, source=source)
    assert tale(empty_database) == [1, 2, 7]
    assert files(empty_database) == ["0001_case.sql", "0002_more.sql"]


@pytest.mark.parametrize(
    ("file", "content", "complaint"),
    [
        ("1_case.sql", "-- migrate:up\n", "not named like"),
        ("0001_Case.sql", "-- migrate:up\n", "not named like"),
        ("0001_case.sql", "SELECT 1;", "one line `-- migrate:up`"),
        ("0001_case.sql", "-- migrate:down\n-- migrate:up\n", "one line `-- migrate:up`"),
        ("0001_case.sql", "-- migrate:up\n-- migrate:up\n", "one line `-- migrate:up`"),
        ("0001_case.sql", "-- migrate:up transaktion:false\n", "transaktion:false"),
        ("0001_case.sql", "-- migrate:up\nCREATE FUNCTION f() BEGIN ATOMIC SELECT 1; END;", "dollar quotes"),
    ],
)
def test_a_file_of_the_wrong_form_is_refused(file: str, content: str, complaint: str) -> None:
    with pytest.raises(MigrationError, match=complaint) as refusal:
        parse(file, content.encode())
    assert file in str(refusal.value)


def test_one_number_for_two_files_is_refused(source: Path) -> None:
    write(source, "0002_also.sql", "SELECT 1;")
    with pytest.raises(MigrationError, match=r"0002_(also|more)\.sql and 0002_(also|more)\.sql have the same number"):
        migrations(source)


STATEMENTS = st.sampled_from(
    [
        "SELECT 1",
        "SELECT ';' || 'it''s; -- no comment'",
        'SELECT ";" FROM "a"";b"',
        "SELECT E'a\\';b'",
        "DO $$ BEGIN; PERFORM ';'; END $$",
        "DO $body$ SELECT $$;$$; $body$",
        "SELECT /* ; /* ; */ ' */ 2",
        "SELECT 1 -- ; it's\n + 2",
        "SELECT $1, a$b$c",
    ]
)


@given(st.lists(STATEMENTS), st.sampled_from(["", ";", " ;\n", "\n-- the end; it's\n"]))
def test_statements_are_cut_where_they_end(statements: list[str], end: str) -> None:
    up = ";\n\n-- next; it's\n".join(statements)
    migration = parse("0001_case.sql", f"-- migrate:up\n{up}{end if statements else ''}\n-- migrate:down\n".encode())
    assert [cut.sql.removesuffix("\n-- the end; it's") for cut in migration.statements] == statements
    lines = f"-- migrate:up\n{up}".splitlines()
    assert all(lines[cut.line - 1].startswith(cut.sql.splitlines()[0]) for cut in migration.statements)


def test_who_may_not_migrate_is_told_who_may(place: Path, source: Path) -> None:
    with Embedded(place / "server", durable=False) as server:
        with psycopg.connect(server.owner_conninfo, autocommit=True) as connection:
            connection.execute("CREATE ROLE guest NOLOGIN")
        guest = make_conninfo(server.owner_conninfo, options="-c role=guest")
        with pytest.raises(MigrationError, match="permission denied for database anjuan"):
            migrate(guest, source=source)
        with psycopg.connect(server.owner_conninfo, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP ROLE anjuan_app"))
        with pytest.raises(MigrationError, match="CREATE ROLE anjuan_app NOLOGIN"):
            migrate(guest, source=source)
        assert len(migrate(server.owner_conninfo, source=source)) == 2
