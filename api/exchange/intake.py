"""Cases of another system as facts of this one, by the public decisions, stored some hundred at a time.

All ids follow from the institution, the mapping's name and the file's own references, so what is stored already is
known again. Each new case gets the next number of the month it was received in (CC-07, CC-08), in the same command; a
number taken by someone else meanwhile makes the batch be built again.
"""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import quote
from uuid import UUID

from api.exchange.mapping import CaseSaid, ComplaintMapping, LineSaid
from api.exchange.quarantine import Refusal
from api.exchange.rows import Line
from api.exchange.spool import EPOCH
from domain.complaint import COMPLAINT, ComplaintCase, ComplaintImported, WorkRecorded, import_case
from domain.institution import INSTITUTION, Institution, institution_id
from domain.kernel import Event, Refused, Role, StaffId, Stamp, named, replay
from domain.series import COMPLAINT_SERIES, SERIES, NumberSeries, complaint_number_in, month, numbered, series_id
from domain.store.casebook import Casebook
from domain.store.recorder import OutcomeUnknown, Rolledback, StaleVersion

RACES = 10
"""How often one batch is built again because someone else was first with a number."""


@dataclass(frozen=True)
class Found:
    """One case of the file: its name there, the line that says what it is, and its lines of work by time."""

    reference: str
    line: Line
    lines: Sequence[Line]


@dataclass
class Batch:
    """Commands to be stored together, the lines refused beside them, and what was known before."""

    commands: list[tuple[Event, ...]] = field(default_factory=list[tuple[Event, ...]])
    refused: list[Refusal] = field(default_factory=list[Refusal])
    new_cases: int = 0
    known_cases: int = 0
    known_events: int = 0

    @property
    def events(self) -> int:
        """How many events are to be stored."""
        return sum(map(len, self.commands))


def case_id(institution: str, mapping: str, reference: str) -> UUID:
    """The stream of an imported case, from its name in the other system."""
    return named(institution, "import", mapping, quote(reference, safe=""))


def line_reference(line: LineSaid) -> str:
    """The name of a line among those of its case: the file's own, or one made of its words where it has none."""
    if line.reference:
        return line.reference
    words = json.dumps([line.activity, line.performer, line.unit, line.occurred_at.isoformat()], ensure_ascii=False)
    return hashlib.sha256(words.encode()).hexdigest()[:24]


def same_line(event: WorkRecorded, line: LineSaid) -> bool:
    """Whether the line says what was recorded."""
    told = (event.activity, event.performer, event.unit, event.stage, event.stamp.at)
    return told == (line.activity, line.performer, line.unit, line.stage, line.occurred_at)


class Intake:
    """Where the cases of one mapping go into one institution. Raises Refused if it is not open or the actor may not."""

    def __init__(self, casebook: Casebook, mapping: ComplaintMapping, actor: StaffId, roles: frozenset[Role]) -> None:
        opened: Institution | None = casebook.read(INSTITUTION, institution_id(casebook.institution))
        if opened is None:
            sentence = f"The institution {casebook.institution} is not open; open it first."
            raise Refused("institution.unknown", sentence, field="institution")
        Stamp(by=actor, at=EPOCH, command_id=actor, roles=roles).must_hold(Role.ADMIN)
        self._casebook = casebook
        self._mapping = mapping
        self._time_zone = opened.place.time_zone
        self._actor = actor
        self._roles = roles
        self._series: dict[str, NumberSeries | None] = {}

    def store(self, cases: Sequence[Found]) -> Batch:
        """Store what is new in these cases, in one transaction. Raises StaleVersion only after RACES lost races."""
        attempt = 0
        while True:
            batch = Batch()
            for case in cases:
                self._add(case, batch)
            try:
                if batch.commands:
                    self._casebook.append_many(batch.commands)
            except (StaleVersion, OutcomeUnknown, Rolledback):
                attempt += 1
                if attempt == RACES:
                    raise
                self._series.clear()
                time.sleep(random.uniform(0, 0.01 * 2**attempt))  # noqa: S311 - not a secret
            else:
                return batch

    def _add(self, found: Found, batch: Batch) -> None:
        said = self._mapping.case_said(found.line.cells)
        history = [event for _, event in self._casebook.history(self._id(said.reference))]
        try:
            case = self._begin(said, replay(COMPLAINT, history), batch)
        except Refused as refusal:
            batch.refused += [_refused(line, said.reference, refusal) for line in found.lines or (found.line,)]
            return
        told = {event.reference: event for event in history if isinstance(event, WorkRecorded)}
        seen: set[str] = set()
        for line in found.lines:
            try:
                case = self._work(said, case, self._mapping.line_said(line.cells), told, seen, batch)
            except Refused as refusal:
                batch.refused.append(_refused(line, said.reference, refusal))
        if said.ended_at is not None:
            try:
                self._end(said, case, said.ended_at, batch)
            except Refused as refusal:
                batch.refused.append(_refused(found.line, said.reference, refusal))

    def _begin(self, said: CaseSaid, known: ComplaintCase | None, batch: Batch) -> ComplaintCase:
        if known is not None:
            imported = known.last(ComplaintImported)
            assert imported is not None, "the stream of an imported case begins with its import"
            again = self._import(said, known, imported.number, imported.owner)
            assert again is None, "told again, or refused"
            batch.known_cases += 1
            batch.known_events += 1
            return known
        code, period = self._casebook.institution, month(said.received_at, self._time_zone)
        if period not in self._series:
            self._series[period] = self._casebook.read(SERIES, series_id(code, COMPLAINT_SERIES, period))
        events = numbered(
            self._series[period],
            self._stamp(said.reference, "case", said.received_at),
            lambda n: self._import(said, None, complaint_number_in(code, period, n), self._actor),
            institution=code,
            series=COMPLAINT_SERIES,
            period=period,
        )
        assert events is not None, "a case that is not known begins"
        batch.commands.append(events)
        batch.new_cases += 1
        self._series[period] = SERIES.evolve(self._series[period], events[1])
        return COMPLAINT.evolve(None, events[0])

    def _import(
        self, said: CaseSaid, known: ComplaintCase | None, number: str, owner: StaffId
    ) -> ComplaintImported | None:
        return import_case(
            known,
            self._stamp(said.reference, "case", said.received_at),
            id=self._id(said.reference),
            source=self._mapping.name,
            reference=said.reference,
            number=number,
            received_at=said.received_at,
            channel=said.channel,
            department=said.department,
            owner=owner,
            category=said.category,
            responsible=said.responsible,
            planned_close_by=said.planned_close_by,
        )

    def _work(
        self,
        said: CaseSaid,
        case: ComplaintCase,
        line: LineSaid,
        told: dict[str, WorkRecorded],
        seen: set[str],
        batch: Batch,
    ) -> ComplaintCase:
        """The case with this line. `told` holds the lines stored or about to be, `seen` names those of this file."""
        reference = line_reference(line)
        before = told.get(reference)
        if before is None:
            event = case.record_work(
                self._stamp(said.reference, f"line/{quote(reference, safe='')}", line.occurred_at),
                activity=line.activity,
                performer=line.performer,
                unit=line.unit,
                reference=reference,
                stage=line.stage,
            )
            assert event is not None, "a line that is not told is new"
            batch.commands.append((event,))
            told[reference] = event
            case = COMPLAINT.evolve(case, event)
        elif not same_line(before, line):
            sentence = f"Another line {reference!r} of this case says otherwise; histories are not changed."
            raise Refused("line.otherwise", sentence)
        elif reference in seen:
            raise Refused("line.duplicate", "The same line of this case stands earlier in this file.")
        else:
            batch.known_events += 1
        seen.add(reference)
        return case

    def _end(self, said: CaseSaid, case: ComplaintCase, ended_at: datetime, batch: Batch) -> None:
        event = case.end_import(self._stamp(said.reference, "end", ended_at), ended_at=ended_at, result=said.result)
        if event is None:
            batch.known_events += 1
        else:
            batch.commands.append((event,))

    def _id(self, reference: str) -> UUID:
        return case_id(self._casebook.institution, self._mapping.name, reference)

    def _stamp(self, reference: str, part: str, at: datetime) -> Stamp:
        """The actor's stamp; the command is named after what it tells, so it is told once."""
        words = (self._casebook.institution, self._mapping.name, "import", quote(reference, safe=""), part)
        return Stamp(by=self._actor, at=at, command_id=named(*words), roles=self._roles)


def _refused(line: Line, reference: str, refusal: Refused) -> Refusal:
    return Refusal.of_line(line, reference, refusal.code, refusal.sentence)
