"""Generated questions about cases, clocks and histories: the same seed gives the same document and variables."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from random import Random
from typing import Any, cast

from graphql import GraphQLObjectType, GraphQLSchema, get_named_type

from projections.complaint import ComplaintRow
from projections.personal import personal_columns

HARM = ("'; DROP TABLE event; --", "%s", "$1", "\\", "投诉😀", '"', "x' OR '1'='1", "")

PERSONAL = frozenset(personal_columns(ComplaintRow))
"""What is masked by post, and so resolved: `test_mask.py` and `test_read_log.py` ask for it."""


@dataclass
class Known:
    """What questions may name: cursors by their list, ids and numbers of cases, people, ids of nodes."""

    cursors: dict[str, list[str]]
    cases: list[str]
    numbers: list[str]
    people: list[str]
    ids: list[str] = field(default_factory=list[str])


@dataclass
class Written:
    """A document being written."""

    schema: GraphQLSchema
    rng: Random
    known: Known
    variables: dict[str, Any] = field(default_factory=dict[str, Any])
    declared: list[str] = field(default_factory=list[str])
    fragments: list[str] = field(default_factory=list[str])
    keys: int = 0

    def document(self) -> str:
        """The whole text."""
        count = self.rng.choice((1, 1, 1, 2, 3))
        roots = [self.root() for _ in range(count)]
        if self.chance(0.2):
            roots.insert(self.rng.randrange(len(roots) + 1), self.key() + "__typename")
        said = f"({', '.join(self.declared)})" if self.declared else ""
        return f"query Asked{said} {{ {' '.join(roots)} }} {' '.join(self.fragments)}"

    def chance(self, part: float) -> bool:
        return self.rng.random() < part

    def key(self) -> str:
        """A response key nothing else has."""
        self.keys += 1
        return f"k{self.keys}: "

    def value(self, type_: str, literal: str, value: Any) -> str:
        """A value as it is or by a variable, with or without a default."""
        if self.chance(0.5):
            return literal
        name = f"v{len(self.declared)}"
        if self.chance(0.3):
            self.declared.append(f"${name}: {type_} = {literal}")
        else:
            self.declared.append(f"${name}: {type_}")
            self.variables[name] = value
        return f"${name}"

    def directive(self) -> str:
        if self.chance(0.85):
            return ""
        holds = self.chance(0.7)
        name = self.rng.choice(("include", "skip"))
        said = holds == (name == "include")
        return f" @{name}(if: {self.value('Boolean!', str(said).lower(), said)})"

    def slice(self, cursors: str) -> list[str]:
        """The arguments of a page."""
        said: list[str] = []
        backwards = self.chance(0.3)
        if self.chance(0.95):
            size = self.rng.choice((1, 2, 3, 7, 25)) if self.chance(0.98) else 0
            said.append(f"{'last' if backwards else 'first'}: {self.value('Int', str(size), size)}")
        for name in ("after", "before"):
            if self.chance(0.2):
                known = self.known.cursors.get(cursors) or ["bm8"]
                one = self.rng.choice(known) if self.chance(0.96) else self.rng.choice(HARM[:3])
                said.append(f"{name}: {self.value('String', _text(one), one)}")
        return said

    def root(self) -> str:
        if self.known.ids and self.chance(0.15):
            return self.nodes()
        name = self.rng.choice(("complaints", "complaints", "complaints", "complaint", "complaintClocks", "history"))
        arguments = getattr(self, f"_{name}")()
        known: Any = self.schema.query_type
        said = f"({', '.join(arguments)})" if arguments else ""
        return f"{self.key()}{name}{said} {self.selected(get_named_type(known.fields[name].type), 0)}"

    def nodes(self) -> str:
        """One node or several, with what is selected of some of their types."""
        several = self.rng.sample(self.known.ids, self.rng.randint(0, min(6, len(self.known.ids))))
        if self.chance(0.5):
            given = f"(ids: {self.value('[ID!]!', json.dumps(several), several)})"
            begin = f"{self.key()}nodes{given}"
        else:
            one = self.rng.choice(self.known.ids)
            begin = f"{self.key()}node(id: {self.value('ID!', _text(one), one)})"
        shown: list[Any] = [self.schema.type_map[name] for name in ("Complaint", "ComplaintClock", "HistoryLine")]
        # keys of their own, since one type's field may be of another kind in the next
        parts = [
            f"... on {type_.name}{self.directive()} {{ {self.key()}id {self.key()}{self.plain_leaf(type_)}"
            f"{self.below(type_)} }}"
            for type_ in self.rng.sample(shown, self.rng.randint(0, 3))
        ]
        return f"{begin} {{ {self.rng.choice(('id', '__typename', '__typename id'))} {' '.join(parts)} }}"

    def plain_leaf(self, type_: GraphQLObjectType) -> str:
        """A field that has no fields of its own."""
        leaves = [
            name
            for name, known in type_.fields.items()
            if name not in PERSONAL and not isinstance(get_named_type(known.type), GraphQLObjectType)
        ]
        return self.rng.choice(leaves)

    def below(self, type_: GraphQLObjectType) -> str:
        """Maybe the pages within, or the row it names."""
        name = {"Complaint": "history", "ComplaintClock": "complaint", "HistoryLine": "complaint"}[type_.name]
        if self.chance(0.5):
            return ""
        if name == "complaint":
            return f" {self.key()}complaint {{ number stage }}"
        arguments = self.slice(name)
        said = f"({', '.join(arguments)})" if arguments else ""
        return f" {self.key()}history{said} {{ totalCount edges {{ cursor node {{ topic id }} }} }}"

    def _complaint(self) -> list[str]:
        if self.chance(0.5):
            one = self.rng.choice(self.known.cases)
            return [f"id: {self.value('UUID', _text(one), one)}"]
        one = self.rng.choice(self.known.numbers if self.chance(0.9) else HARM)
        return [f"number: {self.value('String', _text(one), one)}"]

    def _complaints(self) -> list[str]:
        order, down = self.rng.choice(("RECEIVED", "DUE", "NUMBER")), self.chance(0.5)
        said = [
            f"orderBy: {self.value('CaseOrder!', order, order)}",
            f"descending: {self.value('Boolean!', str(down).lower(), down)}",
            *self.slice(f"{order} {down}"),
        ]
        if self.chance(0.6):
            narrowed = [self._narrowed() for _ in range(self.rng.randint(0, 3))]
            said.append("filter: {" + ", ".join({one.partition(":")[0]: one for one in narrowed}.values()) + "}")
        return self.rng.sample(said, len(said))

    def _narrowed(self) -> str:
        rng = self.rng
        harm = _text(rng.choice(HARM))
        known: Any = self.schema.type_map
        return rng.choice(
            (
                f"stages: [{', '.join(rng.sample(list(known['Stage'].values), 3))}]",
                f"channels: [{rng.choice(list(known['Channel'].values))}]",
                f"categories: [{', '.join(rng.sample(list(known['Category'].values), 2))}]",
                f"severities: {rng.choice(list(known['Severity'].values))}",
                f"owner: {_text(rng.choice(self.known.people))}",
                f"department: {harm}",
                "overdueOnly: true",
                'receivedFrom: "2026-02-01T00:00:00+08:00"',
                'receivedBefore: "2026-05-01T00:00:00Z"',
                f"closed: {rng.choice(('true', 'false', 'null'))}",
                f"source: {harm}",
                f"text: {harm if self.chance(0.4) else _text('0')}",
            )
        )

    def _complaintClocks(self) -> list[str]:
        said = self.slice("complaintClocks")
        if self.chance(0.3):
            said.append(f"kinds: {self.value('[ClockKind!]', '[STEP, STATUTORY]', ['STEP', 'STATUTORY'])}")
        if self.chance(0.3):
            said.append("overdueOnly: true")
        if self.chance(0.2):
            said.append(f"responsible: {_text(self.rng.choice(self.known.people))}")
        return said

    def _history(self) -> list[str]:
        down = self.chance(0.5)
        said = [f"descending: {str(down).lower()}", *self.slice(f"history {down}")]
        if self.chance(0.3):
            said.append(f"stream: {_text(self.rng.choice(self.known.cases))}")
        if self.chance(0.3):
            said.append(f"aggregate: {_text(self.rng.choice(('complaint', *HARM)))}")
        if self.chance(0.3):
            said.append(f"afterPosition: {self.value('BigInt', '20', '20')}")
        return said

    def selected(self, type_: Any, depth: int) -> str:
        """A selection of an object."""
        fields = [self.member(type_, depth) for _ in range(self.rng.randint(1, 6 if depth != 1 else 3))]
        if type_.name.endswith("Connection") and not self.chance(0.1):
            fields.append(self.key() + f"edges {self.selected(get_named_type(type_.fields['edges'].type), depth + 1)}")
        if type_.name.endswith("Edge") and not self.chance(0.1):
            fields.append(f"node {self.selected(get_named_type(type_.fields['node'].type), depth + 1)}")
        return "{ " + " ".join(fields) + " }"

    def member(self, type_: GraphQLObjectType, depth: int) -> str:
        """A field, or a fragment with some."""
        lot = self.rng.random()
        if lot > 0.97 and any(one.name == "Node" for one in type_.interfaces):
            return f"... on Node{self.directive()} {{ id {self.key()}__typename }}"
        if depth < 6 and lot < 0.06:
            condition = self.rng.choice(("", f" on {type_.name}"))
            return f"...{condition}{self.directive()} {self.selected(type_, depth + 4)}"
        if depth < 6 and lot < 0.12:
            name = f"F{len(self.fragments)}"
            self.fragments.append("")
            place = len(self.fragments) - 1
            self.fragments[place] = f"fragment {name} on {type_.name} {self.selected(type_, depth + 4)}"
            return f"...{name}{self.directive()}" + (f" ...{name}" if self.chance(0.2) else "")
        if lot < 0.18:
            return f"{self.key() if self.chance(0.5) else ''}__typename{self.directive()}"
        return self.plain(type_, depth)

    def plain(self, type_: GraphQLObjectType, depth: int) -> str:
        name = self.rng.choice([field for field in type_.fields if field not in PERSONAL])
        known: Any = type_.fields[name]
        below = cast("Any", get_named_type(known.type))
        if not isinstance(below, GraphQLObjectType):
            key = self.key() if self.chance(0.3) else ""
            return f"{key}{name}{self.directive()}"
        if depth > 4:
            return "__typename"
        arguments = self.slice(name) if below.name.endswith("Connection") else []
        said = f"({', '.join(arguments)})" if arguments else ""
        return f"{self.key()}{name}{said}{self.directive()} {self.selected(below, depth + 1)}"


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)
