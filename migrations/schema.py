"""What a database's schema really is, as text: one line per thing, the same on every version of PostgreSQL.

`schema.txt` beside this file is the schema of this version of Anjuan; a test keeps it equal to the sum of
the migrations.
"""

from __future__ import annotations

from importlib.resources import files

import psycopg

_QUERIES = (
    # tables, and what guards their rows
    """
    SELECT format('table %s%s%s%s%s', relname, CASE relkind WHEN 'v' THEN ' view' WHEN 'm' THEN ' matview' ELSE '' END,
                  CASE WHEN relrowsecurity THEN ' row security' ELSE '' END,
                  CASE WHEN relforcerowsecurity THEN ' forced' ELSE '' END, ' ' || nullif(reloptions::text, ''))
    FROM pg_class
    WHERE relnamespace = 'anjuan'::regnamespace AND relkind IN ('r', 'p', 'v', 'm')
    """,
    """
    SELECT format('column %s.%s %s%s%s%s', relname, attname, format_type(atttypid, atttypmod),
                  CASE WHEN attcollation <> 0 AND attcollation <> typcollation THEN ' collate ' || collname END,
                  CASE WHEN attnotnull THEN ' not null' END,
                  CASE WHEN attgenerated <> '' THEN ' generated ' WHEN adbin IS NOT NULL THEN ' default ' END
                  || pg_get_expr(adbin, adrelid) || CASE WHEN attidentity <> '' THEN ' identity' ELSE '' END)
    FROM pg_attribute
    JOIN pg_class ON pg_class.oid = attrelid
    JOIN pg_type ON pg_type.oid = atttypid
    LEFT JOIN pg_collation ON pg_collation.oid = attcollation
    LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
    WHERE relnamespace = 'anjuan'::regnamespace AND relkind IN ('r', 'p', 'v', 'm') AND attnum > 0 AND NOT attisdropped
    """,
    # PostgreSQL 18 keeps NOT NULL here too; the columns above tell it on every version
    """
    SELECT format('constraint %s.%s %s', conrelid::regclass, conname, pg_get_constraintdef(oid))
    FROM pg_constraint
    WHERE connamespace = 'anjuan'::regnamespace AND contype <> 'n' AND conrelid <> 0
    """,
    "SELECT format('index %s', indexdef) FROM pg_indexes WHERE schemaname = 'anjuan'",
    """
    SELECT format('trigger %s %s', pg_get_triggerdef(pg_trigger.oid), tgenabled)
    FROM pg_trigger
    JOIN pg_class ON pg_class.oid = tgrelid
    WHERE relnamespace = 'anjuan'::regnamespace AND NOT tgisinternal
    """,
    """
    SELECT format('function %s(%s) %s %s%s%s', proname, pg_get_function_identity_arguments(pg_proc.oid),
                  pg_get_function_result(pg_proc.oid), md5(prosrc), CASE WHEN prosecdef THEN ' definer' END,
                  ' ' || nullif(proconfig::text, ''))
    FROM pg_proc
    WHERE pronamespace = 'anjuan'::regnamespace
    """,
    """
    SELECT format('policy %s.%s %s %s %s using %s check %s',
                  tablename, policyname, permissive, roles, cmd, qual, with_check)
    FROM pg_policies
    WHERE schemaname = 'anjuan'
    """,
    """
    SELECT format('type %s %s', typname, (SELECT string_agg(enumlabel, ', ' ORDER BY enumsortorder) FROM pg_enum
                                          WHERE enumtypid = pg_type.oid))
    FROM pg_type
    WHERE typnamespace = 'anjuan'::regnamespace AND typtype IN ('d', 'e', 'r')
    """,
    """
    SELECT format('sequence %s', relname) FROM pg_class WHERE relnamespace = 'anjuan'::regnamespace AND relkind = 'S'
    """,
    # what others than the owner may do
    """
    SELECT format('grant %s on %s %s to %s', privilege_type, kind, name, coalesce(rolname, 'public'))
    FROM (
        SELECT 'schema' AS kind, nspname::text AS name, nspowner AS owner, nspacl AS acl
        FROM pg_namespace WHERE nspname = 'anjuan'
        UNION ALL
        SELECT 'table', relname::text, relowner, relacl FROM pg_class WHERE relnamespace = 'anjuan'::regnamespace
        UNION ALL
        SELECT 'column', relname || '.' || attname, relowner, attacl
        FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid WHERE relnamespace = 'anjuan'::regnamespace
        UNION ALL
        SELECT 'function', proname::text, proowner, coalesce(proacl, acldefault('f', proowner))
        FROM pg_proc WHERE pronamespace = 'anjuan'::regnamespace
    ) AS held
    CROSS JOIN aclexplode(acl)
    LEFT JOIN pg_roles ON pg_roles.oid = grantee
    WHERE grantee <> owner
    """,
)


def describe(conninfo: str) -> str:
    """The schema `anjuan` of this database: tables, columns, constraints, indexes, triggers, functions, grants."""
    with psycopg.connect(conninfo) as connection:
        # definitions name what is outside the search path with its schema
        connection.execute("SET search_path = anjuan")
        return "".join(sorted(f"{line}\n" for query in _QUERIES for (line,) in connection.execute(query.encode())))


def expected() -> str:
    """The schema of this version."""
    return (files("migrations") / "schema.txt").read_text()
