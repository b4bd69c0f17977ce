"""The tables of the views: written down for migrations, compared with the row types by a test."""

from __future__ import annotations

from typing import Any

from psycopg import Connection

from projections.view import Column, View


def ddl(view: View[Any]) -> str:
    """The statements that make a view's table, to be put into a migration and given the indexes its questions need."""
    widest = max(len(c.name) for c in view.columns)
    lines = [
        f"    {c.name:<{widest}} {c.type}{_collation(view, c)}{'' if c.nullable else ' NOT NULL'}"
        for c in (next(c for c in view.columns if c.name == name) for name in _order(view))
    ]
    lines.append(f"    PRIMARY KEY (institution, {', '.join(view.key)})")
    text = f"CREATE TABLE {view.name} (\n" + ",\n".join(lines) + "\n);\n"
    tables = [view.name]
    if view.gathers:
        keys = {c.name: c for c in view.columns}
        source = ['    institution text COLLATE "C" NOT NULL']
        source += [f"    {k} {keys[k].type}{_collation(view, keys[k])} NOT NULL" for k in view.key]
        source += ["    position bigint NOT NULL", f"    PRIMARY KEY (institution, {', '.join(view.key)}, position)"]
        text += f"CREATE TABLE {view.name}_source (\n" + ",\n".join(source) + "\n);\n"
        tables.append(f"{view.name}_source")
    text += f"GRANT SELECT, INSERT, UPDATE, DELETE ON {', '.join(tables)} TO anjuan_runner;\n"
    text += f"GRANT SELECT ON {', '.join(tables)} TO anjuan_app, anjuan_reader;\n"
    return text + "".join(f"SELECT keep_apart('{table}');\n" for table in tables)


def _order(view: View[Any]) -> list[str]:
    """Institution, key, the view's own fields, and last what the fold keeps."""
    kept = ["position", "version", "recorded_at"]
    first = ["institution", *view.key]
    own = (c.name for c in view.columns if c.name not in first and c.name not in kept)
    return [*first, *own, *(name for name in kept if name not in first)]


def _collation(view: View[Any], column: Column) -> str:
    # keys are compared byte by byte, the same on every server
    return ' COLLATE "C"' if column.type == "text" and column.name in ("institution", *view.key) else ""


def differences(connection: Connection[Any], view: View[Any]) -> list[str]:
    """What differs between a view's row type and its table in the search path; nothing when they agree."""
    wanted = {c.name: (c.type, not c.nullable, bool(_collation(view, c))) for c in view.columns}
    found = _columns(connection, view.name)
    if not found:
        return [f"there is no table {view.name}"]
    said = [f"{view.name}.{name}: no such column" for name in wanted.keys() - found.keys()]
    said += [f"{view.name}.{name}: no such field in {view.row.__name__}" for name in found.keys() - wanted.keys()]
    for name in wanted.keys() & found.keys():
        for what, w, f in zip(("type", "NOT NULL", 'COLLATE "C"'), wanted[name], found[name], strict=True):
            if w != f and not (what == 'COLLATE "C"' and not w):
                said.append(f"{view.name}.{name}: {what} is {f}, the field says {w}")
    said += _key_differences(connection, view.name, ["institution", *view.key])
    if view.gathers:
        said += _key_differences(connection, f"{view.name}_source", ["institution", *view.key, "position"])
    return sorted(said)


def _columns(connection: Connection[Any], table: str) -> dict[str, tuple[str, bool, bool]]:
    rows = connection.execute(
        """
        SELECT a.attname, format_type(a.atttypid, NULL), a.attnotnull, coalesce(c.collname = 'C', false)
        FROM pg_attribute AS a
        LEFT JOIN pg_collation AS c ON c.oid = a.attcollation
        WHERE a.attrelid = to_regclass(%s) AND a.attnum > 0 AND NOT a.attisdropped
        """,
        (table,),
    ).fetchall()
    return {row[0]: (row[1], row[2], row[3]) for row in rows}


def _key_differences(connection: Connection[Any], table: str, wanted: list[str]) -> list[str]:
    rows = connection.execute(
        """
        SELECT a.attname
        FROM pg_index AS i
        CROSS JOIN unnest(i.indkey) WITH ORDINALITY AS k (attnum, place)
        JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
        WHERE i.indrelid = to_regclass(%s) AND i.indisprimary
        ORDER BY k.place
        """,
        (table,),
    ).fetchall()
    found = [row[0] for row in rows]
    return [] if found == wanted else [f"{table}: the primary key is {found}, it must be {wanted}"]
