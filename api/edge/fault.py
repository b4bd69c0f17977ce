"""What went wrong, as it may leave and as it is logged."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from typing import Any

import psycopg
import structlog
from graphql import GraphQLError

from api.refusal import as_error, refused_by_store
from domain.kernel import Refused

_log: structlog.stdlib.BoundLogger = structlog.get_logger("anjuan.edge")


def presentable(error: GraphQLError, correlation: str, *, at_length: bool) -> dict[str, Any]:
    """An error as it may leave: a refused question or a wrong document as it is, a fault of ours masked.

    `at_length`: the log says what the fault itself says, too; that may hold what people wrote.
    """
    original = error.original_error
    while isinstance(original, GraphQLError) and original.original_error is not None:
        original = original.original_error
    if original is None or isinstance(original, GraphQLError):
        return dict(error.formatted)
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


def _log_fault(problem: Exception, correlation: str, path: Sequence[str | int] | None, *, at_length: bool) -> None:
    """Where it happened and what kind it is; the message may hold what people wrote, so only developers see it."""
    frames = traceback.extract_tb(problem.__traceback__)
    where = [f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in frames[-6:]]
    more = {"message": str(problem)} if at_length else {}
    _log.error("fault", error=type(problem).__name__, where=where, path=path, correlation=correlation, **more)


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
