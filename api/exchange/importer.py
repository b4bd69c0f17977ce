"""Taking complaints over from another system's file: every line a fact with its own date, or a line in quarantine.

The whole file is read and put in order first; a file that cannot be read leaves nothing behind. Then the cases go in,
by receipt, some hundred at a time. A second run, or one after an interruption, adds only what is not there yet.

What cannot be taken over is quarantined with its line and reason: a line of a log alone, while the rest of its case
goes in; every line of a case that nowhere says what it needs to begin; a line or case the histories tell otherwise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from api.exchange.columns import Unacceptable
from api.exchange.intake import Found, Intake
from api.exchange.mapping import ComplaintMapping
from api.exchange.quarantine import Quarantine, Refusal
from api.exchange.rows import Line, Progress, Source, Spoiled, never, no_progress
from api.exchange.spool import Spool
from domain.kernel import Role, StaffId
from domain.store.casebook import Casebook

CASES_AT_ONCE = 200
EVENTS_AT_ONCE = 4_000
"""A batch of one transaction ends with the case that reaches one of these."""
READ_AT_ONCE = 1_000


@dataclass
class ImportReport:
    """What an import did. `rows` and `cases` are the file's; quarantined lines are counted by reason.

    `known_cases` and `known_events` were in the histories before; `stopped` says that it was interrupted and goes on
    when it is run again.
    """

    mapping: str
    file: Path
    digest: str
    rows: int = 0
    cases: int = 0
    new_cases: int = 0
    known_cases: int = 0
    events: int = 0
    known_events: int = 0
    quarantined: Counter[str] = field(default_factory=Counter[str])
    quarantine_file: Path | None = None
    stopped: bool = False


def import_complaints(
    casebook: Casebook,
    mapping: ComplaintMapping,
    path: Path,
    actor: StaffId,
    *,
    roles: frozenset[Role] = frozenset({Role.ADMIN}),
    quarantine: Path | None = None,
    progress: Progress = no_progress,
    stop: Callable[[], bool] = never,
) -> ImportReport:
    """Take every case of the file over into the institution of this casebook.

    `quarantine` is the directory for refused lines, by default `quarantine` beside the file. Raises FileProblem for a
    file that cannot be read, Refused when the institution is not open or the actor may not import, and what
    `append_many` raises; what was appended before stays, and running it again goes on from there.
    """
    source = Source(path, mapping.file, mapping.columns())
    report = ImportReport(mapping.name, path, source.digest())
    intake = Intake(casebook, mapping, actor, roles)
    directory = quarantine if quarantine is not None else path.parent / "quarantine"
    kept = Quarantine(directory / f"{mapping.name}-{report.digest[:12]}.csv", path)
    with kept, Spool() as spool:
        if _read(source, mapping, spool, kept, report, progress, stop):
            _take_over(intake, spool, kept, report, progress, stop)
    report.quarantined = kept.counts
    report.quarantine_file = kept.file if kept.counts else None
    return report


def _read(
    source: Source,
    mapping: ComplaintMapping,
    spool: Spool,
    kept: Quarantine,
    report: ImportReport,
    progress: Progress,
    stop: Callable[[], bool],
) -> bool:
    """Put every line into the spool or into quarantine; False when it was stopped."""
    for line in source:
        report.rows += 1
        if isinstance(line, Spoiled):
            kept.add([Refusal.of_spoiled(line)])
        else:
            refusal = sort_in(line, mapping, spool)
            kept.add([refusal] if refusal is not None else [])
        if report.rows % READ_AT_ONCE == 0:
            progress("reading", report.rows, None)
            if stop():
                report.stopped = True
                return False
    progress("reading", report.rows, report.rows)
    report.cases = spool.sort()
    kept.add(Refusal.of_line(w.line, w.reference, w.code, w.sentence) for w in spool.waiting())
    return True


def sort_in(line: Line, mapping: ComplaintMapping, spool: Spool) -> Refusal | None:
    """Put one line where it belongs, or say why it belongs nowhere."""
    reference = ""
    try:
        reference = mapping.reference(line.cells)
        if mapping.line is None:
            if not spool.tell(reference, mapping.case_said(line.cells).received_at, line):
                raise Unacceptable("case.duplicate", f"The case {reference!r} has an earlier line in this file.")
            return None
        try:
            spool.tell(reference, mapping.case_said(line.cells).received_at, line)
        except Unacceptable as problem:
            spool.leave_untold(reference, problem.code, problem.sentence)
        spool.add(reference, mapping.line_said(line.cells).occurred_at, line)
    except Unacceptable as problem:
        return Refusal.of_line(line, reference, problem.code, problem.sentence)
    return None


def _take_over(
    intake: Intake,
    spool: Spool,
    kept: Quarantine,
    report: ImportReport,
    progress: Progress,
    stop: Callable[[], bool],
) -> None:
    found: list[Found] = []
    lines = done = 0
    for reference, line in spool.cases():
        found.append(Found(reference, line, spool.lines_of(reference)))
        lines += 1 + len(found[-1].lines)
        if len(found) >= CASES_AT_ONCE or lines >= EVENTS_AT_ONCE:
            _store(intake, found, kept, report)
            done += len(found)
            progress("importing", done, report.cases)
            found, lines = [], 0
            if stop():
                report.stopped = True
                return
    _store(intake, found, kept, report)
    progress("importing", report.cases, report.cases)


def _store(intake: Intake, found: list[Found], kept: Quarantine, report: ImportReport) -> None:
    batch = intake.store(found)
    kept.add(batch.refused)
    report.new_cases += batch.new_cases
    report.known_cases += batch.known_cases
    report.events += batch.events
    report.known_events += batch.known_events
