"""Limits on what one request may ask, each with its code: measured before a document is validated or run.

Strawberry's own limiters walk a fragment once for every time it is spread, so forty lines of fragments that spread each
other twice keep them busy for ever. Here every fragment is measured once, and what it holds is multiplied.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLSchema,
    GraphQLSyntaxError,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionNode,
    SelectionSetNode,
    get_operation_ast,
    parse,
)

from api.access.roles import EXPLORERS, Principal, must_be_in_scope
from api.cost import Budget, Cost, Size, said, size_variables
from api.settings import Environment, Settings
from api.watch.account import account
from domain.credential import Scope
from domain.kernel import Refused

DOCUMENTS_KEPT = 500
_ENDLESS_NUMBER = re.compile(r"(?<![0-9])[0-9]{1000}")
INTROSPECTION = frozenset({"__schema", "__type"})


class Over(NamedTuple):
    """A limit that a document is over."""

    code: str
    sentence: str


@dataclass
class Measure:
    """What a selection holds, its fragments included as often as they are spread."""

    depth: int = 0
    aliases: int = 0
    directives: int = 0
    selections: int = 0
    keys: Counter[str] = field(default_factory=Counter[str])
    repeats: int = 0
    introspects: bool = False

    def hold(self, other: Measure) -> None:
        """Add what is selected further down, at whatever level."""
        self.aliases += other.aliases
        self.directives += other.directives
        self.selections += other.selections
        self.repeats = max(self.repeats, other.repeats)
        self.introspects |= other.introspects

    def spread(self, other: Measure) -> None:
        """Add what a fragment selects at this very level."""
        self.hold(other)
        self.depth = max(self.depth, other.depth)
        self.keys.update(other.keys)


class Document:
    """A document as it was written, measured once."""

    def __init__(self, document: DocumentNode) -> None:
        self.document = document
        self.fragments = {d.name.value: d for d in document.definitions if isinstance(d, FragmentDefinitionNode)}
        self.sizes: set[str] = set()
        """The variables that say how large a page is; known once it is measured."""
        self._known: dict[str, Measure] = {}
        self._within: set[str] = set()

    def measures(self) -> list[tuple[OperationDefinitionNode | FragmentDefinitionNode, Measure]]:
        """Every operation and every fragment, whether it is spread or not: validation visits all."""
        return [
            (d, self._selected(d.selection_set))
            for d in self.document.definitions
            if isinstance(d, OperationDefinitionNode | FragmentDefinitionNode)
        ]

    def _selected(self, selected: SelectionSetNode) -> Measure:
        found = Measure()
        for selection in selected.selections:
            found.directives += len(selection.directives or ())
            self._add(found, selection)
        found.repeats = max([found.repeats, *found.keys.values()])
        return found

    def _add(self, found: Measure, selection: SelectionNode) -> None:
        match selection:
            case FieldNode():
                found.selections += 1
                self.sizes.update(size_variables(selection))
                found.aliases += selection.alias is not None
                found.keys[(selection.alias or selection.name).value] += 1
                introspects = selection.name.value in INTROSPECTION
                found.introspects |= introspects
                if selection.selection_set is not None:
                    below = self._selected(selection.selection_set)
                    found.hold(below)
                    # how deep introspection may go is a rule of GraphQL's own validation
                    found.depth = max(found.depth, 0 if introspects else below.depth + 1)
            case InlineFragmentNode():
                found.spread(self._selected(selection.selection_set))
            case FragmentSpreadNode():
                found.spread(self._fragment(selection.name.value))
            case _:
                pass

    def _fragment(self, name: str) -> Measure:
        """What a fragment holds; one that is not there, or is within itself, holds nothing: validation refuses it."""
        if name not in self._known:
            if name in self._within or name not in self.fragments:
                return Measure()
            self._within.add(name)
            self._known[name] = self._selected(self.fragments[name].selection_set)
            self._within.remove(name)
        return self._known[name]


class Gate:
    """Lets a request in, or refuses it with the code of the limit it is over."""

    def __init__(self, schema: GraphQLSchema, settings: Settings) -> None:
        self._schema = schema
        self._settings = settings
        self._budget = Budget(settings.cost_per_minute)
        self._read = lru_cache(maxsize=DOCUMENTS_KEPT)(self._measured)
        self._price = lru_cache(maxsize=DOCUMENTS_KEPT)(self._priced)

    def admit(self, query: str, operation: str | None, variables: Mapping[str, Any] | None, who: Principal) -> None:
        """Raise Refused when the document is over a limit, OverBudget when the principal is. A refusal costs 1."""
        cost, refused = 1, None
        try:
            cost = self._cost(query, operation, variables or {}, who)
        except Refused as problem:
            refused = problem
        self._budget.spend((who.institution, who.staff_id), cost)
        account().cost = cost
        if refused is not None:
            raise refused

    def explores(self, who: Principal) -> bool:
        """Whether the schema is shown to this principal: introspection, and names suggested for misspelt ones."""
        return self._settings.environment == Environment.DEVELOPMENT or bool(who.roles & EXPLORERS)

    def weigh(self, query: str) -> None:
        """Raise Refused when a document is over a limit whoever asks it, with its variables' defaults."""
        read, _ = self._held(query)
        for definition in () if read is None else read.document.definitions:
            if isinstance(definition, OperationDefinitionNode):
                self._afforded(query, definition.name.value if definition.name else None, frozenset())

    def _cost(self, query: str, operation: str | None, variables: Mapping[str, Any], who: Principal) -> int:
        read, introspects = self._held(query)
        if introspects:
            must_be_in_scope(who, Scope.ASK)
        if introspects and not self.explores(who):
            raise Refused("limit.introspection", "Your posts do not allow introspection; use the committed schema.")
        if read is None:
            return 1  # executing it says what is wrong
        return self._afforded(
            query, operation, frozenset((n, said(variables[n])) for n in read.sizes if n in variables)
        )

    def _held(self, query: str) -> tuple[Document | None, bool]:
        """The document, if it can be read, and whether it introspects; raises Refused when it is over a limit."""
        most = self._settings
        if len(query) > most.document_chars_max:
            raise Refused(
                "limit.document",
                f"The document has more than {most.document_chars_max} characters; send texts as variables.",
            )
        read, introspects, refused = self._read(query)
        if refused is not None:
            raise Refused(*refused)
        return read, introspects

    def _afforded(self, query: str, operation: str | None, sizes: frozenset[tuple[str, Size]]) -> int:
        """What an operation costs; raises Refused when that is too much for one."""
        cost, most = self._price(query, operation, sizes), self._settings.cost_max
        if cost > most:
            raise Refused("limit.cost", f"The operation costs {_at_most(cost)}; at most {most}. Ask for smaller pages.")
        return cost

    def _priced(self, query: str, operation: str | None, sizes: frozenset[tuple[str, Size]]) -> int:
        read, _, _ = self._read(query)
        asked = None if read is None else get_operation_ast(read.document, operation)
        return (
            1
            if read is None or asked is None
            else Cost(self._schema, read.fragments, asked, dict(sizes)).of_operation()
        )

    def _measured(self, query: str) -> tuple[Document | None, bool, Over | None]:
        """The document, whether it introspects, and code and sentence of the first limit it is over."""
        if _ENDLESS_NUMBER.search(query):
            sentence = "The document has a number of a thousand digits; no field takes one."
            return None, False, Over(code="limit.document", sentence=sentence)
        try:
            read = Document(parse(query, max_tokens=self._settings.tokens_max))
        except GraphQLSyntaxError as problem:
            return None, False, self._unread(problem.message)
        if len(read.fragments) > self._settings.fragments_max:
            sentence = f"The document has {len(read.fragments)} fragments; at most {self._settings.fragments_max}."
            return None, False, Over(code="limit.fragments", sentence=sentence)
        try:
            measures = read.measures()
        except RecursionError:
            return None, False, self._unread("nested too deeply")
        refused = next((r for one in measures if (r := self._over(*one)) is not None), None)
        return read, any(measure.introspects for _, measure in measures), refused

    def _unread(self, problem: str) -> Over | None:
        most = self._settings
        if "tokens" in problem and "aborted" in problem:
            return Over(
                code="limit.tokens", sentence=f"The document has more than {most.tokens_max} tokens; ask for less."
            )
        if "nested too deeply" in problem:
            return Over(code="limit.depth", sentence=f"The document exceeds the depth of {most.depth_max}.")
        return None

    def _over(self, definition: OperationDefinitionNode | FragmentDefinitionNode, found: Measure) -> Over | None:
        most = self._settings
        directives = found.directives + len(definition.directives or ())
        questions = found.keys.total() if isinstance(definition, OperationDefinitionNode) else 0
        for count, limit, over in (
            (found.depth, most.depth_max, Over(code="limit.depth", sentence="is {} deep; its depth may be {}.")),
            (found.aliases, most.aliases_max, Over(code="limit.aliases", sentence="has {} aliases; at most {}.")),
            (directives, most.directives_max, Over(code="limit.directives", sentence="has {} directives; at most {}.")),
            (
                questions,
                most.fields_max,
                Over(code="limit.fields", sentence="asks {} questions; at most {} go into one."),
            ),
            (
                found.repeats,
                most.repeats_max,
                Over(code="limit.repeats", sentence="says one field {} times; at most {}."),
            ),
            (
                found.selections,
                most.selections_max,
                Over(code="limit.selections", sentence="selects {} fields; at most {}."),
            ),
        ):
            if count > limit:
                return Over(over.code, "The operation " + over.sentence.format(_at_most(count), limit))
        return None


def _at_most(count: int) -> str:
    """A count for people: fragments within fragments can make it longer than a page."""
    return str(count) if count < 1_000_000 else "more than a million"


def without_suggestion(message: str) -> str:
    """The message of an error without the names it suggests."""
    start = message.rfind(" Did you mean ")
    return message[:start] if start >= 0 and message.endswith("?") else message
