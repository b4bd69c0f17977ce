"""A question in one request: what it waits for and sends, and what is said of the answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import psycopg
from graphql import GraphQLError, GraphQLNonNull, located_error

from api.context import Context
from api.identity import NODES_MAX
from api.node import asked_for
from api.plan import answer
from api.plan.fields import CHOSEN
from api.plan.personal import Shown
from api.plan.road import Found
from api.plan.selection import Chosen, Declined, Nodes, Root, Rows
from api.plan.sql import INSTITUTION, Ask
from api.plan.statement import columns
from api.plan.wire import Lines
from projections.page import Condition, Slice
from projections.view import Key, View
from projections.views import OF_CASES, VIEWS

_TYPES = {"uuid": "uuid[]", "bigint": "bigint[]", "text": "text[]"}


class Said(NamedTuple):
    """What is said in one place of the answer: None where nothing may stand but an answer, and there is none."""

    text: bytes | None
    errors: Sequence[GraphQLError] = ()
    shown: Sequence[tuple[Sequence[Shown], int, Lines]] = ()
    """Personal columns shown unmasked, where whose they are begins in these lines."""


class Turn(ABC):
    """A question in one request. `sends`: for each statement the selection it is of, and its pages."""

    chosen: Chosen
    reads: Sequence[View[Any]]
    position: int | None
    sends: Sequence[tuple[Rows, Sequence[Ask]]]

    @property
    def needed(self) -> bool:
        """Whether without its answer there is no answer at all."""
        known: Any = self.chosen.known
        return isinstance(known.type, GraphQLNonNull)

    def nothing(self, problem: Exception) -> Said:
        """Why there is no answer, said in its place."""
        return Said(None if self.needed else b"null", [self.error(problem)])

    def error(self, problem: Exception, *place: int) -> GraphQLError:
        """What went wrong, as GraphQL says it of this field or of one of its items."""
        return located_error(problem, self.chosen.nodes, [self.chosen.key, *place])

    @abstractmethod
    def said(self, found: Sequence[Found]) -> Said:
        """What is said once each statement is answered, or could not be."""


class OfRows(Turn):
    """A page, or one row."""

    def __init__(self, root: Root, context: Context, variables: Any) -> None:
        """Raises Refused, and GraphQLError for arguments that are none."""
        allowed(root.rows, context)
        self.chosen, self.reads, self._root = root.chosen, root.question.reads, root
        self._given = root.chosen.arguments.of(variables)
        self.position = self._given.pop("consistent_with", None)
        self._ask = Ask(*root.question.ask(context, **self._given))
        self.sends = [(root.rows, [self._ask, *within(root.rows, variables)])]

    def said(self, found: Sequence[Found]) -> Said:
        """The page; the row, or that there is none."""
        rows, none = self._root.rows, self._root.question.none
        (lines,) = found
        if isinstance(lines, psycopg.OperationalError):
            return self.nothing(lines)
        if none is None:
            text, lines = answer.page(rows.pages.parts, lines, self._ask.slice, columns(rows.pages))
        elif not lines:
            return self.nothing(none(**self._given))
        else:
            text, lines = lines[0][0], lines[:1]
        return Said(text, shown=[(rows.shown, columns(rows.pages).shown, lines)])


@dataclass
class _OfView:
    """The ids asked for of one view, with what they name."""

    ids: list[str] = field(default_factory=list[str])
    keys: list[Key] = field(default_factory=list[Key])


class OfNodes(Turn):
    """Nodes by their ids: a statement for each view."""

    position = None
    reads = OF_CASES

    def __init__(self, nodes: Nodes, context: Context, variables: Any) -> None:
        """Raises Declined for what is no row, or a row as it was; Refused, and GraphQLError for arguments."""
        self.chosen = nodes.chosen
        context.may_ask(nodes.chosen.name)
        ((name, given),) = nodes.chosen.arguments.of(variables).items()
        self._many = name == "ids"
        self._ids: list[str] = given if self._many else [given]
        if len(self._ids) > NODES_MAX:
            raise Declined("more nodes than are answered at once")
        self._of: dict[str, _OfView] = {}
        for id in self._ids:
            one = asked_for(context, id, name)
            if one.tag not in nodes.of or one.bound is not None:
                raise Declined("a node that is no row, or as it was")
            of = self._of.setdefault(one.tag, _OfView())
            of.ids.append(id)
            of.keys.append(one.key)
        self.sends = [self._sends(nodes.of[tag], VIEWS[tag], of, context, variables) for tag, of in self._of.items()]
        self.reads = [*OF_CASES, *(VIEWS[tag] for tag in self._of)]

    def _sends(
        self, rows: Rows | Declined, view: View[Any], of: _OfView, context: Context, variables: Any
    ) -> tuple[Rows, Sequence[Ask]]:
        if isinstance(rows, Declined):
            raise rows
        allowed(rows, context)
        where = CHOSEN[view.name](context) if view.name in CHOSEN else ()
        return rows, [Keys(view, of.keys, where), *within(rows, variables)]

    def said(self, found: Sequence[Found]) -> Said:
        """The nodes in the order of their ids, null where there is none; each has its own error."""
        texts: dict[str, bytes | None] = {}
        problems: dict[str, psycopg.OperationalError] = {}
        shown: list[tuple[Sequence[Shown], int, Lines]] = []
        for (rows, _), of, lines in zip(self.sends, self._of.values(), found, strict=True):
            if isinstance(lines, psycopg.OperationalError):
                problems |= dict.fromkeys(of.ids, lines)
                continue
            texts |= {id.decode(): text for id, text, *_ in lines if id is not None}
            shown.append((rows.shown, columns(rows.pages).shown, lines))
        several = [texts.get(id) or b"null" for id in self._ids]
        places = [((place,) if self._many else (), id) for place, id in enumerate(self._ids)]
        errors = [self.error(problems[id], *place) for place, id in places if id in problems]
        return Said(b"[%b]" % b",".join(several) if self._many else several[0], errors, shown)


class Keys(Ask):
    """The rows with these keys, in place of a page."""

    def __init__(self, view: View[Any], keys: Sequence[Key], where: Sequence[Condition]) -> None:
        types = {column.name: column.type for column in view.columns}
        self.pager: Any = None  # there is no page, so no row has a cursor
        self._view = view
        self._types = [types[name] for name in view.key]
        self._where = [text for text, _ in where]
        each = zip(*dict.fromkeys(keys), strict=True)
        self.values = [_bindable(column) for column in each] + [value for _, value in where]
        self.slice = Slice()

    @property
    def shape(self) -> Hashable:
        """However many keys there are, the SQL is the same."""
        return self._view.name, *self._where

    def order(self) -> str:
        """Any: whoever asks puts them in the order asked for."""
        return ", ".join(f'"{name}"' for name in self._view.key)

    def rows(self, first: int, more: str, parent: str = "") -> str:
        """Those that there are."""
        names = ", ".join(f'"{name}"' for name in self._view.key)
        given = ", ".join(f"${first + n}::{_TYPES[type_]}" for n, type_ in enumerate(self._types))
        conditions = [
            f"institution = {INSTITUTION}",
            f"({names}) IN (SELECT {names} FROM unnest({given}) AS asked ({names}))",
        ]
        for number, text in enumerate(self._where, first + len(self._types)):
            conditions.append(text.replace("%s", f"${number}"))
        return f'SELECT * FROM "{self._view.name}" WHERE {" AND ".join(conditions)}'


def _bindable(column: Sequence[Any]) -> list[Any]:
    """A list as `wire.bound` takes it: of UUIDs, or of texts."""
    return [str(value) if isinstance(value, int) else value for value in column]


def allowed(rows: Rows, context: Context) -> None:
    """Refuse unless whoever asks may ask all that is selected."""
    for question in rows.asked:
        context.may_ask(question)


def within(rows: Rows, variables: Any) -> list[Ask]:
    """The pages within rows."""
    slices = [Slice(**nested.chosen.arguments.of(variables)) for nested in rows.within]
    return [Ask(n.pager, slice, rows=n.rows) for n, slice in zip(rows.within, slices, strict=True)]
