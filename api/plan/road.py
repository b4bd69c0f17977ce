"""The way of planned statements to the database: a connection of the pool, the institution set, one round trip."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg

from api.access.proof import STATEMENT
from api.context import Context
from api.plan import wire
from api.plan.wire import Lines, Statement, bound
from domain.store.tenant import SET_INSTITUTION

SETTING = SET_INSTITUTION.replace("%s", "$1").encode()
"""For this transaction, which is this round trip."""


class Unanswered(Exception):
    """The database could not answer, in time or at all; `place` says which statement, None for all of them."""

    def __init__(self, problem: psycopg.OperationalError, place: int | None) -> None:
        super().__init__(str(problem))
        self.problem = problem
        self.place = place


async def answers(context: Context, statements: Sequence[Statement]) -> list[Lines]:
    """What each statement answers to the principal's institution.

    Whether the principal's token still holds is asked in the same round trip, if that is still to be shown. Raises
    Unanswered, and Refuted when it does not.
    """
    proof = context.proof if context.proof is not None and context.proof.wanted else None
    before = [bound(SETTING, [context.institution])]
    if proof is not None:
        before.append(bound(STATEMENT, [proof.sha256]))
    try:
        found = await _asked(context, [*before, *statements])
    except wire.Failed as failed:
        if not isinstance(failed.problem, psycopg.OperationalError):
            raise failed.problem from None
        place = failed.place - len(before)
        raise Unanswered(failed.problem, place if place >= 0 else None) from failed.problem
    except psycopg.OperationalError as problem:
        raise Unanswered(problem, None) from problem
    if proof is not None:
        proof.show(found[1])
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
