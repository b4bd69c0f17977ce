"""Brings a database to the schema of this version: every migration once, in order, and nothing that was changed since.

Applied migrations are kept with their digests in `anjuan.schema_migration`. A file that was edited, renamed or removed
after it was applied, or is numbered before one that was applied, is refused. The same files can be used with `dbmate`.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from importlib.resources.abc import Traversable

import psycopg
from psycopg import errors, sql
from psycopg.rows import tuple_row

from migrations.script import Migration, MigrationError, Statement, migrations

GROUPS = ("anjuan_app", "anjuan_reader", "anjuan_runner")
"""The roles of the three kinds of work: commands, questions, and views with all else that is for every institution."""
LOCK = 0x616E_6A75_616E
"""Advisory lock of whoever migrates this database ("anjuan")."""

_TABLE = """
CREATE TABLE IF NOT EXISTS anjuan.schema_migration (
    version integer PRIMARY KEY,
    name text NOT NULL,
    digest text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
)
"""

Applied = dict[int, tuple[str, str]]
"""Version -> name and digest."""


def migrate(conninfo: str, *, source: Traversable | None = None) -> list[Migration]:
    """Apply what is pending, each migration in a transaction of its own; answers what was applied.

    Safe to run from several processes at once: one applies, the others wait and find nothing left. Raises
    MigrationError, naming the file, when a file must be refused or fails; what a failing one did is undone.
    """
    known = migrations(source)
    with _connect(conninfo) as connection, _alone(connection):
        _prepare(connection)
        todo = _pending(known, _applied(connection))
        for migration in todo:
            _apply(connection, migration)
        return list(todo)


def pending(conninfo: str, *, source: Traversable | None = None) -> list[Migration]:
    """What `migrate` would apply; changes nothing. Raises MigrationError when a file must be refused."""
    known = migrations(source)
    with _connect(conninfo) as connection:
        return list(_pending(known, _applied(connection)))


def check(conninfo: str, *, source: Traversable | None = None) -> None:
    """Raise MigrationError unless the database has exactly the schema of this version."""
    if todo := pending(conninfo, source=source):
        names = ", ".join(migration.file for migration in todo)
        raise MigrationError(f"The database is older than this version; run `anjuan migrate`. Pending: {names}.")


def _connect(conninfo: str) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(conninfo, autocommit=True, row_factory=tuple_row, application_name="anjuan migrate")


@contextmanager
def _alone(connection: psycopg.Connection[tuple[object, ...]]) -> Generator[None]:
    # tried again and again rather than waited for: a statement that waits holds a snapshot, and
    # CREATE INDEX CONCURRENTLY in the other runner would wait for that in turn
    while connection.execute("SELECT pg_try_advisory_lock(%s)", [LOCK]).fetchone() != (True,):
        time.sleep(0.05)
    try:
        yield
    finally:
        if not connection.closed:
            connection.execute("SELECT pg_advisory_unlock(%s)", [LOCK])


def _prepare(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    """Schema, group roles and the table of what was applied."""
    for group in GROUPS:
        _make_group(connection, group)
    try:
        with connection.transaction():
            if not connection.execute("SELECT FROM pg_namespace WHERE nspname = 'anjuan'").rowcount:
                connection.execute("CREATE SCHEMA anjuan")
            app = sql.Identifier(GROUPS[0])
            connection.execute(sql.SQL("GRANT USAGE ON SCHEMA anjuan TO {}").format(app))
            if not connection.execute("SELECT WHERE to_regclass('anjuan.schema_migration') IS NOT NULL").rowcount:
                connection.execute(_TABLE)
                connection.execute(sql.SQL("GRANT SELECT ON anjuan.schema_migration TO {}").format(app))
    except errors.InsufficientPrivilege as error:
        raise MigrationError(
            f"{connection.info.user} may not migrate the database {connection.info.dbname}: "
            f"{error.diag.message_primary}. Migrate as the role that owns the database and the schema anjuan."
        ) from error
    _join_runners(connection)


def _make_group(connection: psycopg.Connection[tuple[object, ...]], group: str) -> None:
    if connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [group]).rowcount:
        return
    try:
        connection.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(group)))
    except (errors.DuplicateObject, errors.UniqueViolation):
        pass  # roles belong to the whole server, and somebody migrates another database of it
    except errors.InsufficientPrivilege as error:
        raise MigrationError(
            f"The role {group}, which the application belongs to, is missing and {connection.info.user} may not "
            f"create it. Have an administrator run: CREATE ROLE {group} NOLOGIN;"
        ) from error


def _join_runners(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    """Whoever owns the tables sees every institution, as a member of the runners; by itself not even the owner does."""
    runner = GROUPS[2]
    asked = "SELECT current_user::text, quote_ident(current_user), pg_has_role(%s, 'USAGE')"
    user, owner, joined = connection.execute(asked, [runner]).fetchone() or ("", "", False)
    if joined:
        return
    with suppress(errors.InsufficientPrivilege):  # said below
        connection.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(sql.Identifier(runner)))
    user, owner, joined = connection.execute(asked, [runner]).fetchone() or ("", "", False)
    if not joined:
        raise MigrationError(
            f"{user}, who migrates and rebuilds views, must be a member of {runner} with its "
            f"privileges inherited. Have an administrator run: ALTER ROLE {owner} INHERIT; GRANT {runner} TO {owner};"
        )


def _applied(connection: psycopg.Connection[tuple[object, ...]]) -> Applied:
    try:
        rows = connection.execute("SELECT version, name, digest FROM anjuan.schema_migration ORDER BY version")
    except (errors.UndefinedTable, errors.InvalidSchemaName):
        return {}
    return {int(str(version)): (str(name), str(digest)) for version, name, digest in rows}


def _pending(known: Sequence[Migration], applied: Applied) -> Sequence[Migration]:
    """What is left to apply, or MigrationError if the past was changed."""
    by_version = {migration.version: migration for migration in known}
    for version, (name, digest) in applied.items():
        migration = by_version.get(version)
        if migration is None or migration.name != name:
            raise MigrationError(
                f"{version:04}_{name}.sql was applied to this database but is missing here. Either this version of "
                "Anjuan is older than the one that migrated the database, or the file was removed or renamed: bring it "
                "back."
            )
        if migration.digest != digest:
            raise MigrationError(
                f"{migration.file} was edited after it was applied to this database. Restore it, and write what is to "
                "change as a new migration."
            )
    last = max(applied, default=0)
    todo = [migration for migration in known if migration.version not in applied]
    for migration in todo:
        if migration.version < last:
            raise MigrationError(
                f"{migration.file} comes too late: {by_version[last].file} was already applied to this database. "
                "Give it the next free number."
            )
    return todo


def _apply(connection: psycopg.Connection[tuple[object, ...]], migration: Migration) -> None:
    record = "INSERT INTO anjuan.schema_migration (version, name, digest) VALUES (%s, %s, %s)"
    row = [migration.version, migration.name, migration.digest]
    if migration.transaction:
        with connection.transaction():
            connection.execute("SET LOCAL search_path = anjuan")
            for statement in migration.statements:
                _execute(connection, migration, statement)
            connection.execute(record, row)
        return
    connection.execute("SET search_path = anjuan")
    for statement in migration.statements:
        _execute(connection, migration, statement)
    connection.execute(record, row)


def _execute(connection: psycopg.Connection[tuple[object, ...]], migration: Migration, statement: Statement) -> None:
    try:
        connection.execute(statement.sql.encode())
    except psycopg.Error as error:
        position = int(error.diag.statement_position or 1)
        line = statement.line + statement.sql.count("\n", 0, position - 1)
        left = "" if migration.transaction else " It runs outside a transaction, so its earlier statements remain."
        why = error.diag.message_primary or str(error)
        raise MigrationError(f"{migration.file}, line {line}: {why}.{left}") from error
