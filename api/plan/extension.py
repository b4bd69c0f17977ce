"""Where the planner stands in Strawberry's handling of a request: documents read once, answers in their place."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass, field
from typing import Any

from graphql import DocumentNode, ExecutionResult, GraphQLError, parse
from strawberry.extensions import SchemaExtension
from strawberry.schema.schema import validate_document

from api.access.proof import Refuted
from api.plan.kept import Kept
from api.plan.planner import Planner

DOCUMENTS_KEPT = 500


@dataclass
class Read:
    """A document, and what is wrong with it once that was looked for."""

    document: DocumentNode
    errors: list[GraphQLError] | None = field(default=None)


class Documents:
    """The documents last asked with, parsed and validated once; those of Strawberry hash the whole tree each time."""

    def __init__(self, tokens_max: int) -> None:
        self._tokens_max = tokens_max
        self._read: Kept[str, Read] = Kept(DOCUMENTS_KEPT)

    def read(self, query: str) -> Read:
        """The document. Raises GraphQLSyntaxError."""
        return self._read.get(query, lambda: Read(parse(query, max_tokens=self._tokens_max)))


class Planned(SchemaExtension):
    """Reads documents from what is kept, and puts the planner's answer in the place of resolving."""

    def __init__(self, documents: Documents, planner: Planner | None) -> None:
        self._documents = documents
        self._planner = planner

    def on_operation(self) -> Generator[None]:
        """Before anything: with a document and its errors there, nothing is parsed or validated again."""
        asked: Any = self.execution_context
        if asked.query:
            known = self._documents.read(asked.query)
            if known.errors is None:
                known.errors = validate_document(asked.schema._schema, known.document, tuple(asked.validation_rules))
            asked.graphql_document = known.document
            asked.pre_execution_errors = known.errors
        yield

    async def on_execute(self) -> AsyncGenerator[None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Before execution: with a result there, nothing is resolved."""
        asked = self.execution_context
        if asked.result is None:
            try:
                if self._planner is not None:
                    asked.result = await self._planner.answer(asked)
                proof = asked.context.proof
                if asked.result is None and proof is not None:
                    # nothing is resolved, and no command carried out, for a token that may not hold
                    await proof.must_hold()
            except Refuted:
                asked.result = ExecutionResult(None, [GraphQLError("")])  # the edge throws it away
        yield
