"""The tables beside a view's, and putting them in its place: names, indexes, grants and policies stay the same."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import psycopg
from psycopg import Connection
from psycopg.sql import SQL, Identifier

from domain.store.mapper import Mapper
from projections.runner import advance
from projections.table import NEXT, Table
from projections.view import View

PATIENCE_SECONDS = 60.0
"""How long the switch tries to find a moment without readers before it gives up (and can be tried again)."""
SMALL = 1000
"""Events that may be left unread at the switch; the runner takes them from there."""
_OLD = "__old"


class SwitchRefused(Exception):
    """The new table is ready, but the switch was not possible; what to do is in the message. Nothing is lost."""


def _pairs(view: View[Any]) -> Iterator[tuple[str, str]]:
    table = Table(view, NEXT)
    yield view.name, table.name
    if view.gathers:
        yield f"{view.name}_source", table.source


def make_tables(connection: Connection[Any], view: View[Any]) -> None:
    """Make the tables a rebuild fills, with the view's columns and indexes; only runners may touch them.

    Until the switch they have no row-level security, into which nobody can COPY: so nobody else is let near them.
    Raises SwitchRefused when something in the database is built on the view's table, which the switch would break.
    """
    for live, beside in _pairs(view):
        _refuse_dependents(connection, live)
        connection.execute(SQL("CREATE TABLE {} (LIKE {} INCLUDING ALL)").format(Identifier(beside), Identifier(live)))
        connection.execute(
            SQL("GRANT SELECT, INSERT, UPDATE, DELETE ON {} TO anjuan_runner").format(Identifier(beside))
        )


def drop_tables(connection: Connection[Any], view: View[Any]) -> None:
    """Drop what `make_tables` made."""
    for _, beside in _pairs(view):
        connection.execute(SQL("DROP TABLE IF EXISTS {}").format(Identifier(beside)))


def _refuse_dependents(connection: Connection[Any], table: str) -> None:
    rows = connection.execute(
        """
        SELECT DISTINCT coalesce(r.ev_class::regclass::text, c.conrelid::regclass::text)
        FROM pg_depend AS d
        LEFT JOIN pg_rewrite AS r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
        LEFT JOIN pg_constraint AS c
          ON d.classid = 'pg_constraint'::regclass AND c.oid = d.objid AND c.conrelid <> d.refobjid
        WHERE d.refobjid = to_regclass(%s) AND (r.oid IS NOT NULL OR c.oid IS NOT NULL)
        ORDER BY 1
        """,
        (table,),
    ).fetchall()
    if rows:
        names = ", ".join(row[0] for row in rows)
        raise SwitchRefused(f"{table} cannot be rebuilt while {names} is built on it; drop that first.")


def _extras(connection: Connection[Any], live: str, beside: str) -> list[Any]:
    """What LIKE leaves out: grants, triggers, row security and its policies. Written by the server itself."""
    rows = connection.execute(
        """
        SELECT format('GRANT %%s ON %%I TO %%s', a.privilege_type, %(beside)s::text,
                      CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END)
        FROM pg_class AS c CROSS JOIN aclexplode(c.relacl) AS a
        WHERE c.oid = to_regclass(%(live)s) AND a.grantee <> c.relowner
        UNION ALL
        SELECT replace(pg_get_triggerdef(t.oid), ' ON ' || n.nspname || '.' || %(live)s || ' ',
                       ' ON ' || n.nspname || '.' || %(beside)s || ' ')
        FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE c.oid = to_regclass(%(live)s) AND NOT t.tgisinternal
        UNION ALL
        SELECT format('CREATE POLICY %%I ON %%I AS %%s FOR %%s TO %%s%%s%%s', p.policyname, %(beside)s::text,
                      p.permissive, p.cmd, (SELECT string_agg(quote_ident(r), ', ') FROM unnest(p.roles) AS r),
                      ' USING (' || p.qual || ')', ' WITH CHECK (' || p.with_check || ')')
        FROM pg_policies AS p JOIN pg_namespace AS n ON n.nspname = p.schemaname
        JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = p.tablename
        WHERE c.oid = to_regclass(%(live)s)
        UNION ALL
        SELECT format('ALTER TABLE %%I ENABLE ROW LEVEL SECURITY', %(beside)s::text)
        FROM pg_class AS c WHERE c.oid = to_regclass(%(live)s) AND c.relrowsecurity
        UNION ALL
        SELECT format('ALTER TABLE %%I FORCE ROW LEVEL SECURITY', %(beside)s::text)
        FROM pg_class AS c WHERE c.oid = to_regclass(%(live)s) AND c.relforcerowsecurity
        UNION ALL
        SELECT format('COMMENT ON TABLE %%I IS %%L', %(beside)s::text, said)
        FROM obj_description(to_regclass(%(live)s), 'pg_class') AS said WHERE said IS NOT NULL
        """,
        {"live": live, "beside": beside},
    ).fetchall()
    return [row[0] for row in rows]


def settle(connection: Connection[Any], view: View[Any]) -> None:
    """Give the planner its statistics before anybody reads the new tables."""
    for _, beside in _pairs(view):
        connection.execute(SQL("VACUUM (ANALYZE) {}").format(Identifier(beside)))


def switch(connection: Connection[Any], mapper: Mapper, view: View[Any], *, patience: float = PATIENCE_SECONDS) -> int:
    """Put the new tables in place of the view's, with their tracking, in one transaction; how many events that took in.

    Waits for a moment in which nobody reads the table, and never makes a reader wait longer than the rename takes.
    """
    end = time.monotonic() + patience
    wait = 0.01
    while True:
        try:
            return _switch(connection, mapper, view, wait)
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as problem:
            if time.monotonic() > end:
                raise SwitchRefused(
                    f"{view.name} is ready but was read for {patience:.0f} s without a pause; rebuild again later."
                ) from problem
            time.sleep(wait)
            wait = min(wait * 2, 0.5)


def _switch(connection: Connection[Any], mapper: Mapper, view: View[Any], wait: float) -> int:
    table = Table(view, NEXT)
    events = 0
    with connection.transaction():
        # while these are held the view stands still, and the new table is never behind what readers have seen
        connection.execute(
            "SELECT position FROM tracking WHERE view = %s ORDER BY institution FOR UPDATE", (view.name,)
        ).fetchall()
        while True:
            read = advance(connection, mapper, {table.name: table})
            events += read
            if read < SMALL and not _behind(connection, view.name, table.name):
                break
        connection.execute(SQL("SET LOCAL synchronous_commit = on"))
        connection.execute("SELECT set_config('lock_timeout', %s, true)", (f"{int(wait * 1000)}ms",))
        for live, _ in _pairs(view):
            connection.execute(SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(Identifier(live)))
        for live, beside in _pairs(view):
            for statement in _extras(connection, live, beside):
                connection.execute(statement)
            _take_place(connection, live, beside)
        for where in ("tracking", "parked"):
            where = Identifier(where)
            connection.execute(SQL("DELETE FROM {} WHERE view = %s").format(where), (view.name,))
            connection.execute(SQL("UPDATE {} SET view = %s WHERE view = %s").format(where), (view.name, table.name))
        connection.execute("DELETE FROM rebuild WHERE view = %s", (view.name,))
        connection.execute("DELETE FROM rebuild_begun WHERE view = %s", (view.name,))
    return events


def _behind(connection: Connection[Any], live: str, beside: str) -> bool:
    row = connection.execute(
        "SELECT EXISTS (SELECT FROM tracking AS t LEFT JOIN tracking AS n"
        " ON n.institution = t.institution AND n.view = %s"
        " WHERE t.view = %s AND t.position > coalesce(n.position, 0))",
        (beside, live),
    ).fetchone()
    return row is None or row[0]


def _take_place(connection: Connection[Any], live: str, beside: str) -> None:
    old = live + _OLD
    renames = list(zip(_indexes(connection, live), _indexes(connection, beside), strict=True))
    rename = SQL("ALTER TABLE {} RENAME TO {}")
    connection.execute(rename.format(Identifier(live), Identifier(old)))
    connection.execute(rename.format(Identifier(beside), Identifier(live)))
    connection.execute(SQL("DROP TABLE {}").format(Identifier(old)))
    for kept, made in renames:
        if kept != made:
            connection.execute(SQL("ALTER INDEX {} RENAME TO {}").format(Identifier(made), Identifier(kept)))


def _indexes(connection: Connection[Any], table: str) -> list[str]:
    """The names of a table's indexes, in an order that depends on what they are, not on what they are called."""
    rows = connection.execute(
        """
        SELECT c.relname
        FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
        WHERE i.indrelid = to_regclass(%s)
        ORDER BY i.indisprimary, i.indisunique, regexp_replace(pg_get_indexdef(c.oid), '^.* USING ', ''), c.relname
        """,
        (table,),
    ).fetchall()
    return [row[0] for row in rows]
