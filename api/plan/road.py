"""The way of planned statements to the database: a connection of the pool, the institution set, one round trip."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg

from api.context import Context
from api.plan import wire
from api.plan.wire import Lines, Statement, bound

SETTING = b"SELECT set_config('anjuan.institution', $1, true)"
"""For this transaction, which is this round trip."""


class Unanswered(Exception):
    """The database could not answer, in time or at all; `place` says which statement, None for all of them."""

    def __init__(self, problem: psycopg.OperationalError, place: int | None) -> None:
        super().__init__(str(problem))
        self.problem = problem
        self.place = place


async def answers(context: Context, statements: Sequence[Statement]) -> list[Lines]:
    """What each statement answers to the principal's institution. Raises Unanswered."""
    before = [bound(SETTING, [context.institution])]
    try:
        found = await _asked(context, [*before, *statements])
    except wire.Failed as failed:
        if not isinstance(failed.problem, psycopg.OperationalError):
            raise failed.problem from None
        place = failed.place - len(before)
        raise Unanswered(failed.problem, place if place >= 0 else None) from failed.problem
    except psycopg.OperationalError as problem:
        raise Unanswered(problem, None) from problem
    return found[len(before) :]


async def _asked(context: Context, statements: Sequence[Statement]) -> list[Lines]:
    pool = context.reach.pool
    connection = await pool.getconn()
    try:
        return await wire.ask(connection, statements)
    except psycopg.OperationalError:
        if not connection.closed:
            raise
    finally:
        await pool.putconn(connection)
    # it was lost while nobody used it, and others may be too; these statements only read, so they are sent once more
    await pool.check()
    connection = await pool.getconn()
    try:
        return await wire.ask(connection, statements)
    finally:
        await pool.putconn(connection)
