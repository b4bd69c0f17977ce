"""Which institution a transaction is about: what row-level security lets it see and add.

Every table with a column `institution` has the policy `institution = current_setting('anjuan.institution', true)`
(migrations/0008_row_security.sql). The setting holds for one transaction, so a connection goes back to its pool with
nothing set, and whoever borrows it next and does not say for which institution sees nothing at all. It guards against
a forgotten predicate, not against somebody who can send SQL of their own: those could set it too.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any, Final, LiteralString

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import RowFactory

SETTING: Final = "anjuan.institution"
"""The name of the setting."""
SET_INSTITUTION: LiteralString = "SELECT set_config('anjuan.institution', %s, true)"
"""Sets it until the transaction ends; one value, the institution."""

IDLE: Final = TransactionStatus.IDLE


def asked(
    connection: psycopg.Connection[Any],
    institution: str,
    query: LiteralString,
    values: Sequence[Any],
    *,
    row_factory: RowFactory[Any] | None = None,
    binary: bool = False,
) -> list[Any]:
    """The lines that a statement about one institution answers, in one round trip and a transaction of its own.

    On a connection that is in a transaction already, the statement joins it: whoever began it has said the institution.
    """
    cursor = connection.cursor(binary=binary)
    if row_factory is not None:
        cursor.row_factory = row_factory
    if connection.info.transaction_status != IDLE:
        return cursor.execute(query, values, prepare=True).fetchall()
    # what a pipeline sends up to its end is one transaction
    with connection.pipeline():
        connection.execute(SET_INSTITUTION, (institution,), prepare=True)
        cursor.execute(query, values, prepare=True)
    return cursor.fetchall()


@contextmanager
def about(connection: psycopg.Connection[Any], institution: str) -> Generator[psycopg.Connection[Any]]:
    """The connection in a transaction about one institution, ended with the block."""
    with connection.transaction():
        connection.execute(SET_INSTITUTION, (institution,), prepare=True)
        yield connection


async def begin_reading(connection: psycopg.AsyncConnection[Any], institution: str) -> None:
    """Begin a transaction that only reads, about one institution; one round trip. A pool ends it with the loan."""
    async with connection.pipeline():
        await connection.execute("BEGIN READ ONLY")
        await connection.execute(SET_INSTITUTION, (institution,), prepare=True)
