"""What went wrong, as it may leave and as it is logged."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import psycopg
import structlog
from graphql import GraphQLError, GraphQLSyntaxError

from api.chinese.sentences import SENTENCES
from api.logs import where
from api.refusal import as_error, refused_by_store
from domain.kernel import Refused

_VARIABLE = re.compile(r"Variable (?:'\$(\w+)' has invalid |values are nested too deeply)")
_ARGUMENT = re.compile(r"Argument '(?:[\w.]*\.)?(\w+)\b[^']*' ")

_log: structlog.stdlib.BoundLogger = structlog.get_logger("anjuan.edge")


def presentable(error: GraphQLError, correlation: str, *, at_length: bool) -> dict[str, Any]:
    """An error as it may leave: a refused question or a wrong document as it is, a fault of ours masked.

    `at_length`: the log says what the fault itself says, too; that may hold what people wrote.
    """
    original = error.original_error
    while isinstance(original, GraphQLError) and original.original_error is not None:
        original = original.original_error
    if original is None or isinstance(original, GraphQLError):
        return _wrong(error)
    refused = original if isinstance(original, Refused) else _refused_question(original)
    if refused is not None:
        said = as_error(refused)
    else:
        _log_fault(original, correlation, error.path, at_length=at_length)
        said = GraphQLError(
            f"Something went wrong on our side; it is logged under {correlation}.",
            extensions={"code": "internal", "correlation": correlation},
        )
    place = {"path": error.path} if error.path else {}
    places = {"locations": [loc.formatted for loc in error.locations]} if error.locations else {}
    return {"message": said.message, **places, **place, "extensions": said.extensions}


def _wrong(error: GraphQLError) -> dict[str, Any]:
    """A mistake in the document or in its variables: what GraphQL says of it, with a code and where it is.

    A scalar's own code (`time.no_zone`) is kept, since it says more.
    """
    said: dict[str, Any] = {"code": "document.invalid"}
    variable = _VARIABLE.match(error.message)
    if isinstance(error, GraphQLSyntaxError):
        said = {"code": "document.syntax"}
    elif variable is not None:
        said = {"code": "variable.invalid", **({"field": variable[1]} if variable[1] else {})}
    elif error.path is not None:
        argument = _ARGUMENT.match(error.message)
        said = {} if argument is None else {"code": "argument.invalid", "field": argument[1]}
    said |= error.extensions or {}
    if sentence := SENTENCES.get(said.get("code", "")):
        said = {"code": said["code"], "sentenceZh": sentence, **said}
    return {**error.formatted, **({"extensions": said} if said else {})}


def _log_fault(problem: Exception, correlation: str, path: Sequence[str | int] | None, *, at_length: bool) -> None:
    """Where it happened and what kind it is; the message may hold what people wrote, so only developers see it."""
    more = {"message": str(problem)} if at_length else {}
    _log.error("fault", error=type(problem).__name__, where=where(problem), path=path, correlation=correlation, **more)


def _refused_question(problem: Exception) -> Refused | None:
    """A question the database could not answer in time or at all, for now."""
    if isinstance(problem, psycopg.errors.QueryCanceled):
        return Refused("request.timeout", "The question took too long; ask for less, page by page.")
    if refused_by_store(problem) is not None:
        return Refused("store.away", "The database cannot be reached for now; ask again in a moment.")
    return None


def wrapped(problem: Exception) -> GraphQLError:
    """A problem outside any field."""
    return GraphQLError("", original_error=problem)
