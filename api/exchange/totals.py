"""Does what is stored agree with the file it came from? Counted anew from both sides."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from api.exchange.history import Replay, replay_all
from api.exchange.importer import sort_in
from api.exchange.intake import case_id, line_reference, same_line
from api.exchange.mapping import ComplaintMapping, LineSaid
from api.exchange.rows import Progress, Source, Spoiled, no_progress
from api.exchange.spool import Spool
from domain.complaint import ComplaintImported, ImportedCaseEnded, WorkRecorded
from domain.kernel import Event
from domain.store.casebook import Casebook

CASES_AT_ONCE = 200

__all__ = ["Replay", "Totals", "check_totals", "replay_all"]


@dataclass
class Totals:
    """The file's own counts and how many of each are found in the histories.

    `rows_refused` are lines that no case can be made of, `events` all that is stored of the file's cases.
    """

    rows: int = 0
    rows_refused: int = 0
    rows_stored: int = 0
    cases: int = 0
    cases_stored: int = 0
    ended: int = 0
    ended_stored: int = 0
    events: int = 0

    @property
    def agree(self) -> bool:
        """Whether every line of the file is stored as it stands there or refused, and every case that can begin is
        stored. A line the histories tell otherwise, or that came after the end of its case, is neither."""
        stored = (self.rows_stored, self.cases_stored, self.ended_stored)
        return stored == (self.rows - self.rows_refused, self.cases, self.ended)


def check_totals(
    casebook: Casebook, mapping: ComplaintMapping, path: Path, *, progress: Progress = no_progress
) -> Totals:
    """Count the file again and look up every line of it in the histories. Raises FileProblem."""
    totals = Totals()
    with Spool() as spool:
        for line in Source(path, mapping.file, mapping.columns()):
            totals.rows += 1
            totals.rows_refused += isinstance(line, Spoiled) or sort_in(line, mapping, spool) is not None
        totals.cases = spool.sort()
        totals.rows_refused += sum(1 for _ in spool.waiting())
        for number, (reference, line) in enumerate(spool.cases(), 1):
            said = mapping.case_said(line.cells)
            lines = [mapping.line_said(work.cells) for work in spool.lines_of(reference)]
            history = [event for _, event in casebook.history(case_id(casebook.institution, mapping.name, reference))]
            totals.ended += said.ended_at is not None
            _count(totals, history, lines, log=mapping.line is not None)
            if number % CASES_AT_ONCE == 0:
                progress("counting", number, totals.cases)
    progress("counting", totals.cases, totals.cases)
    return totals


def _count(totals: Totals, history: list[Event], lines: list[LineSaid], *, log: bool) -> None:
    told = {event.reference: event for event in history if isinstance(event, WorkRecorded)}
    stored = any(isinstance(event, ComplaintImported) for event in history)
    totals.events += len(history)
    totals.cases_stored += stored
    totals.ended_stored += any(isinstance(event, ImportedCaseEnded) for event in history)
    if not log:
        totals.rows_stored += stored
    for line in lines:
        event = told.get(line_reference(line))
        totals.rows_stored += event is not None and same_line(event, line)
