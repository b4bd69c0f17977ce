"""One rule for every value that leaves or enters: how GraphQL's scalars look.

Instants are RFC 3339 in UTC with six digits and offset, `bigint` and `numeric` are strings, amounts are yuan as text. A
text that is no such value is an error of the request, which GraphQL reports with the name of the argument.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NewType
from uuid import UUID

import strawberry
from graphql import GraphQLError, ValueNode, value_from_ast_untyped
from strawberry.types.scalar import ScalarDefinition

from domain.kernel import Refused
from domain.money import Money

BigInt = NewType("BigInt", int)
"""A whole number that may not fit GraphQL's 32 bits: positions, versions, counts."""

INT8_MAX = 2**63 - 1


def show_instant(value: datetime) -> str:
    """An instant as every answer shows it: `2026-01-07T01:30:00.000000+00:00`."""
    return value.astimezone(UTC).isoformat(timespec="microseconds")


def parse_instant(value: object) -> datetime:
    """An instant with its offset; raises GraphQLError otherwise."""
    if not isinstance(value, str):
        raise GraphQLError("Write the time as text, for example 2026-01-07T09:30:00+08:00.")
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        raise GraphQLError(
            f"{_short(value)} is no time; write it as in 2026-01-07T09:30:00+08:00.",
            extensions={"code": "time.unreadable"},
        ) from None
    if at.tzinfo is None:
        raise GraphQLError(
            f"{_short(value)} has no offset; say the time with its offset, for example 2026-01-07T09:30:00+08:00.",
            extensions={"code": "time.no_zone"},
        )
    try:
        return at.astimezone(UTC)
    except OverflowError:
        raise GraphQLError(f"{_short(value)} is out of range.", extensions={"code": "time.unreadable"}) from None


def parse_whole(value: object) -> int:
    """A whole number, given as a number or as text; raises GraphQLError otherwise."""
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,19}", value, re.ASCII):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) > INT8_MAX:
        raise GraphQLError(f'{_short(value)} is no whole number; write it as 42 or as "42".')
    return value


def parse_uuid(value: object) -> UUID:
    """An id; raises GraphQLError otherwise."""
    if isinstance(value, str):
        try:
            id = UUID(value)
        except ValueError:
            pass
        else:
            if id.int:
                return id
            raise GraphQLError("The nil id names nothing; make a random one (UUID version 4 or 7).")
    raise GraphQLError(
        f"{_short(value)} is no UUID; write it as 0e8f6c1e-6a0c-4b7e-9b53-0d8f6a6a3f10. The `id` of an object is for"
        " `node` alone; elsewhere send the UUID beside it, for example `complaintId`."
    )


def parse_yuan(value: object) -> Money:
    """An amount in yuan; raises GraphQLError otherwise."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise GraphQLError('Write the amount in yuan as text, for example "1200.50".')
    try:
        return Money.of(value)
    except Refused as refused:
        raise GraphQLError(refused.sentence, extensions={"code": refused.code}) from None


def show_yuan(value: Money | Decimal) -> str:
    """An amount with two places."""
    return str(value.yuan if isinstance(value, Money) else value)


def _written(parse: Callable[[object], Any]) -> Callable[[ValueNode, dict[str, Any] | None], Any]:
    """The same for a value written into the document: the error says where it stands."""

    def read(node: ValueNode, variables: dict[str, Any] | None = None) -> Any:
        try:
            return parse(value_from_ast_untyped(node, variables))
        except GraphQLError as problem:
            raise GraphQLError(problem.message, node, extensions=problem.extensions) from None

    return read


def _short(value: object) -> str:
    shown = repr(value) if isinstance(value, str) else str(value)
    return shown if len(shown) <= 60 else shown[:57] + "…'"


SCALARS: Mapping[object, ScalarDefinition] = {
    datetime: strawberry.scalar(
        name="DateTime",
        description="时刻 – an instant: RFC 3339 with offset; answers are in UTC with six digits.",
        serialize=show_instant,
        parse_value=parse_instant,
        parse_literal=_written(parse_instant),
    ),
    BigInt: strawberry.scalar(
        name="BigInt",
        description="A whole number of up to 63 bits. Answered as text; accepted as a number or as text.",
        serialize=str,
        parse_value=parse_whole,
        parse_literal=_written(parse_whole),
    ),
    UUID: strawberry.scalar(
        name="UUID",
        description="An id (RFC 9562).",
        serialize=str,
        parse_value=parse_uuid,
        parse_literal=_written(parse_uuid),
    ),
    Money: strawberry.scalar(
        name="Yuan",
        description="元 – an amount of money in yuan with two places. Answered as text; never a floating-point number.",
        serialize=show_yuan,
        parse_value=parse_yuan,
        parse_literal=_written(parse_yuan),
    ),
}
