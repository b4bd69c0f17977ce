"""The plan's own SQL without any server before it: what the database takes for the answer, and so the limit.

By pgbench where it is installed, which the embedded server does not ship; else by a loop over libpq in one process.
"""

from __future__ import annotations

import asyncio
import re
import resource
import shutil
import subprocess
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
from graphql import parse
from graphql.execution.values import VariableValues, get_variable_values
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from api.plan import wire
from api.plan.plan import Plan
from api.plan.planner import operation_of
from api.plan.read import Reader
from api.plan.selection import Root
from api.plan.turn import OfRows
from api.plan.wire import Statement
from api.schema import build
from api.settings import Settings
from domain.kernel import Role

PGBENCH = shutil.which("pgbench")


def planned(question: str, variables: dict[str, Any], institution: str, role: Role) -> Statement:
    """The statement that the question's plan sends."""
    schema: Any = build(Settings(_env_file=None))  # pyright: ignore[reportCallIssue]
    operation = operation_of(parse(question), None)
    assert operation is not None
    known = get_variable_values(schema._schema, operation.definition.variable_definitions or (), variables)
    assert isinstance(known, VariableValues)
    plan = Plan(Reader(schema, operation, {}, frozenset({role})).roots())
    now = datetime.now(UTC)
    context: Any = SimpleNamespace(institution=institution, now=now, moment=now, may_ask=str)
    (root,) = plan._questions
    assert isinstance(root, Root)
    ((rows, asks),) = OfRows(root, context, known).sends
    return plan._statement(rows, asks, context)


def within(owner: str, institution: str) -> str:
    """A connection string whose sessions are about one institution."""
    return make_conninfo(owner, options=f"{conninfo_to_dict(owner)['options']} -c anjuan.institution={institution}")


def run(
    owner: str, institution: str, statement: Statement, connections: int, seconds: float
) -> tuple[int, float, float]:
    """How often it was answered in so many seconds, and the CPU of client and of server for one, in milliseconds."""
    session = within(owner, institution)
    before = _ended(owner)
    client, count = (_pgbench if PGBENCH else _loop)(session, statement, connections, seconds)
    until = time.monotonic() + 2
    while _backends(owner) and time.monotonic() < until:
        time.sleep(0.05)
    return count, client / count, (_ended(owner) - before) / count


def _pgbench(session: str, statement: Statement, connections: int, seconds: float) -> tuple[float, int]:
    assert PGBENCH is not None
    parts = conninfo_to_dict(session)
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        # to pgbench a colon before a letter is a variable; in a format of instants it may be quoted
        text = statement.text.decode().replace("HH24:MI:SS", 'HH24":"MI":"SS')
        script.write(re.sub(r"\$([0-9]+)", r":v\1", text) + ";\n")
        script.flush()
        given = [
            f"--define=v{n}={'' if value is None else value.decode()}" for n, value in enumerate(statement.values, 1)
        ]
        before = _children()
        said = subprocess.run(
            [PGBENCH, "--no-vacuum", "--protocol=prepared", f"--client={connections}",
             f"--time={max(1, round(seconds))}", f"--file={script.name}", *given],
            check=True, capture_output=True, text=True,
            env={"PGHOST": str(parts["host"]), "PGPORT": str(parts["port"]), "PGUSER": str(parts["user"]),
                 "PGDATABASE": str(parts["dbname"]), "PGPASSFILE": str(parts["passfile"]),
                 "PGOPTIONS": str(parts["options"])},
        ).stdout  # fmt: skip
        found = re.search(r"transactions actually processed: ([0-9]+)", said)
        assert found is not None, said
        return _children() - before, int(found[1])


def _loop(session: str, statement: Statement, connections: int, seconds: float) -> tuple[float, int]:
    """The same by our own client, on an event loop."""

    async def one(until: float) -> int:
        count = 0
        async with await psycopg.AsyncConnection[Any].connect(session, autocommit=True) as connection:
            while time.monotonic() < until:
                await wire.ask(connection, [statement])
                count += 1
        return count

    async def all() -> int:
        until = time.monotonic() + seconds
        return sum(await asyncio.gather(*(one(until) for _ in range(connections))))

    before = time.process_time()
    count = asyncio.run(all())
    return (time.process_time() - before) * 1000, count


def _children() -> float:
    """CPU of processes of ours that have ended, in milliseconds."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (used.ru_utime + used.ru_stime) * 1000


def _ended(owner: str) -> float:
    """CPU of the server's processes that have ended, in milliseconds; the kernel counts hundredths of a second."""
    with psycopg.connect(owner) as connection:
        backend = connection.info.backend_pid
        parent = Path(f"/proc/{backend}/stat").read_text().rpartition(") ")[2].split()[1]
        fields = Path(f"/proc/{parent}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[13]) + int(fields[14])) * 10.0


def _backends(owner: str) -> int:
    """How many of pgbench's backends are not over yet."""
    with psycopg.connect(owner) as connection:
        row = connection.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgbench'").fetchone()
    assert row is not None
    return int(row[0])
