"""A refusal as the edge says it: a stable code, the sentence in English and in Chinese, and the field that was wrong.

Commands answer refusals as a member of their union. A question that cannot be answered as asked is an error with the
same parts in its extensions. Everything else that goes wrong is our fault and is masked (see `api/schema.py`).
"""

from __future__ import annotations

import psycopg
import strawberry
from graphql import GraphQLError
from psycopg_pool import PoolTimeout
from strawberry.utils.str_converters import to_camel_case

from api.chinese.sentences import SENTENCES
from domain.kernel import Refused
from domain.store.casebook import CommandReused
from domain.store.recorder import Busy, OutcomeUnknown, Rolledback

FIELDS = {"at": "occurredAt"}
"""Names of the domain that are called otherwise at the edge; all others only change from snake_case to camelCase."""


@strawberry.type(description="拒绝 – the rule says no; nothing was stored. Show the sentence to whoever asked.")
class Refusal:
    """What a person is told who may not, or not yet, or not so."""

    code: str = strawberry.field(description="Stable; programs decide by it.")
    sentence: str = strawberry.field(description="Why, and what to do, in English.")
    sentence_zh: str = strawberry.field(description="The same in Chinese.")
    field: str | None = strawberry.field(description="The argument that was wrong, if one was.")


def refusal(refused: Refused) -> Refusal:
    """The edge's words for a refusal of the domain."""
    return Refusal(
        code=refused.code,
        sentence=refused.sentence,
        sentence_zh=SENTENCES.get(refused.code, refused.sentence),
        field=None if refused.field is None else FIELDS.get(refused.field, to_camel_case(refused.field)),
    )


def refused_by_store(problem: Exception) -> Refused | None:
    """What the store's own troubles mean for whoever sent a command; None when it is a fault of ours."""
    match problem:
        case CommandReused():
            return Refused(
                "command.reused",
                "This command id was already used for something else; send a new command id.",
                field="command_id",
            )
        case Busy() | PoolTimeout():
            return Refused("store.busy", "Too much is going on and nothing was stored; send the same command again.")
        case Rolledback():
            return Refused(
                "store.busy", "The database refused for now; nothing was stored, send the same command again."
            )
        case OutcomeUnknown() | psycopg.OperationalError():
            return Refused(
                "store.outcome_unknown",
                "The database went away, so it is not known whether this was stored; send the same command again with"
                " the same command id, it is done once.",
            )
        case _:
            return None


def as_error(refused: Refused) -> GraphQLError:
    """A refused question, as an error that says code, field and the Chinese sentence in its extensions."""
    said = refusal(refused)
    extensions = {"code": said.code, "sentenceZh": said.sentence_zh}
    if said.field is not None:
        extensions["field"] = said.field
    return GraphQLError(said.sentence, extensions=extensions)
