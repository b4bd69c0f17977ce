"""The way of planned statements to the database: a connection of the pool, the institution set, one round trip."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import psycopg

from api.access.proof import STATEMENT
from api.context import Context
from api.plan import wire
from api.plan.wire import Lines, Statement, bound
from domain.store.tenant import SET_INSTITUTION

SETTING = SET_INSTITUTION.replace("%s", "$1").encode()
"""For this transaction, which is this round trip."""

Found = Lines | psycopg.OperationalError
"""What a statement answers, or why it could not in time or at all."""


class Unanswered(Exception):
    """The database could not answer, in time or at all.

    `found` is what it had answered before the statement it could not; None when nothing was asked of it.
    """

    def __init__(self, problem: psycopg.OperationalError, found: list[Lines] | None = None) -> None:
        super().__init__(str(problem))
        self.problem = problem
        self.found = found


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
        if len(failed.found) < len(before):
            raise Unanswered(failed.problem) from failed.problem
        if proof is not None:
            proof.show(failed.found[1])
        raise Unanswered(failed.problem, failed.found[len(before) :]) from failed.problem
    except psycopg.OperationalError as problem:
        raise Unanswered(problem) from problem
    if proof is not None:
        proof.show(found[1])
    return found[len(before) :]


async def each(context: Context, statements: Sequence[Statement], needed: Sequence[bool]) -> list[Found]:
    """What each statement answers, or why it could not. Raises Refuted.

    Behind one that fails, nothing of its round trip is answered: the others are asked again, each on its own way and
    all at once as resolvers would. After one of those `needed` nobody wants the others, and all of them fail with it.
    """
    try:
        return [*await answers(context, statements)]
    except Unanswered as unanswered:
        if unanswered.found is None:
            return [unanswered.problem] * len(statements)
        found: list[Found] = [*unanswered.found, unanswered.problem]
    later = statements[len(found) :]
    if needed[len(found) - 1]:
        return found + [found[-1]] * len(later)
    return found + await asyncio.gather(*[_alone(context, one) for one in later])


async def _alone(context: Context, statement: Statement) -> Found:
    try:
        (found,) = await answers(context, [statement])
    except Unanswered as unanswered:
        return unanswered.problem
    return found


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
