"""Imports: every line a fact or in quarantine, numbers without gaps, twice adds nothing, interrupted goes on."""

from __future__ import annotations

import csv
import gzip
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from api.exchange.history import history_digest, replay_all
from api.exchange.importer import CASES_AT_ONCE, import_complaints
from api.exchange.intake import case_id
from api.exchange.mapping import ComplaintMapping, mapping_named
from api.exchange.totals import check_totals
from domain.complaint import COMPLAINT, ComplaintImported, ImportedCaseEnded, Stage, WorkRecorded
from domain.kernel import Refused, Stamp
from domain.series import COMPLAINT_SERIES, SERIES, NumberIssued, issue, series_id
from domain.store.casebook import Casebook, House
from tests.api.files import ACTOR, opened, public_file
from tests.api.logs import bring, case_of, events_of, log, refused_lines, write
from tests.conftest import MASTER_KEY, Database
from tests.rules import rule

__all__ = ["log", "write"]

COSELOG = "complaint/coselog_receipt.csv.gz"
PHL = "complaint/phl_complaints.csv.gz"


@rule("CC-07", "CC-08")
def test_a_real_log_becomes_histories_with_their_own_dates_and_gapless_numbers(
    casebook: Casebook, tmp_path: Path
) -> None:
    file, mapping = public_file(COSELOG), mapping_named("coselog_receipt")
    report = import_complaints(opened(casebook, "Europe/Amsterdam"), mapping, file, ACTOR, quarantine=tmp_path)
    assert (report.cases, report.rows, report.new_cases) == (1434, 8577, 1434)
    assert (report.quarantined.total(), report.quarantine_file) == (0, None)
    with gzip.open(file, "rt") as raw:
        lines = list(csv.DictReader(raw))
    events = events_of(casebook)
    worked = sorted(e.stamp.at for e in events if isinstance(e, WorkRecorded))
    assert worked == sorted(datetime.fromisoformat(line["time:timestamp"]).astimezone(UTC) for line in lines)
    ended = {line["case:concept:name"] for line in lines if line["case:enddate"]}
    assert sum(isinstance(e, ImportedCaseEnded) for e in events) == len(ended) == 1329

    imported = [e for e in events if isinstance(e, ComplaintImported)]
    order = sorted(imported, key=lambda e: (e.received_at, e.reference))
    by_month: dict[str, list[str]] = defaultdict(list)
    for event in order:
        by_month[event.number[: len(casebook.institution) + 6]].append(event.number)
    for month, given in by_month.items():
        assert given == [f"{month}{n:02d}" for n in range(1, len(given) + 1)]
    # two digits are widened past 99
    assert max(map(len, by_month.values())) == 132
    assert f"{casebook.institution}201012132" in by_month[f"{casebook.institution}201012"]


def test_the_real_log_replays_and_its_totals_agree(casebook: Casebook, tmp_path: Path) -> None:
    file, mapping = public_file(COSELOG), mapping_named("coselog_receipt")
    report = import_complaints(opened(casebook), mapping, file, ACTOR, quarantine=tmp_path)
    again = import_complaints(casebook, mapping, file, ACTOR, quarantine=tmp_path)
    assert (again.events, again.new_cases, again.known_cases) == (0, 0, 1434)
    # each new case took a number of a series as well
    assert again.known_events == report.events - 1434 == 1434 + 8577 + 1329
    replay = replay_all(casebook)
    assert (replay.cases, replay.events, replay.failures) == (1434, report.events - 1434, [])
    totals = check_totals(casebook, mapping, file)
    assert totals.agree
    assert (totals.rows, totals.rows_stored, totals.cases_stored, totals.ended_stored) == (8577, 8577, 1434, 1329)


def test_a_second_source_needs_only_a_mapping(casebook: Casebook, tmp_path: Path) -> None:
    file, mapping = public_file(PHL), mapping_named("phl_complaints")
    report = import_complaints(opened(casebook, "America/New_York"), mapping, file, ACTOR, quarantine=tmp_path)
    assert (report.cases, report.rows, report.new_cases) == (5296, 5296, 5296)
    assert not report.quarantined
    first = case_of(casebook, "13-0001", "phl_complaints")
    assert first is not None
    assert first.received_at == datetime(2013, 1, 7, 5, tzinfo=UTC)
    told = [e for e in events_of(casebook) if isinstance(e, ComplaintImported)]
    # blanks before a category make no other category; what a spreadsheet left makes no district
    assert sum(e.category == "service_quality" for e in told) == 1020 + 37
    assert sum(e.department == "" for e in told) == 98 + 6 + 4 + 1
    assert check_totals(casebook, mapping, file).agree
    assert import_complaints(casebook, mapping, file, ACTOR, quarantine=tmp_path).events == 0


def test_interrupted_and_run_again_it_is_as_if_never_interrupted(
    house: House, database: Database, institution: str, tmp_path: Path
) -> None:
    file, mapping = public_file(COSELOG), mapping_named("coselog_receipt")
    asked = iter([False] * 11 + [True])
    with House(database.app, MASTER_KEY) as elsewhere:
        halted = opened(elsewhere.casebook(institution))
        first = import_complaints(halted, mapping, file, ACTOR, quarantine=tmp_path, stop=lambda: next(asked))
        assert first.stopped
        assert 0 < first.new_cases < first.cases
        second = import_complaints(halted, mapping, file, ACTOR, quarantine=tmp_path)
        assert (second.stopped, second.known_cases + second.new_cases) == (False, 1434)
        straight = opened(house.casebook(institution))
        import_complaints(straight, mapping, file, ACTOR, quarantine=tmp_path)
        assert history_digest(halted) == history_digest(straight)


def test_stopped_while_reading_it_leaves_nothing(casebook: Casebook, tmp_path: Path) -> None:
    file, mapping = public_file(COSELOG), mapping_named("coselog_receipt")
    head = opened(casebook).head()
    report = import_complaints(casebook, mapping, file, ACTOR, quarantine=tmp_path, stop=lambda: True)
    assert report.stopped
    assert casebook.head() == head


def many(count: int) -> list[str]:
    start = datetime(2026, 3, 2, tzinfo=UTC)
    return [
        f"c{n:04d},{(start + timedelta(minutes=n)).isoformat()},tel,,hear,2026-03-05T10:00,who,1" for n in range(count)
    ]


@rule("CC-08")
def test_a_number_taken_meanwhile_is_not_given_again(
    casebook: Casebook, log: ComplaintMapping, write: Callable[..., Path]
) -> None:
    file = write(*many(2 * CASES_AT_ONCE + 50))
    code = casebook.institution

    def accept_one() -> bool:
        said = Stamp(by=ACTOR, at=datetime(2026, 3, 9, tzinfo=UTC), command_id=uuid4())
        casebook.act(
            SERIES,
            series_id(code, COMPLAINT_SERIES, "2026-03"),
            lambda known: issue(known, said, institution=code, series=COMPLAINT_SERIES, period="2026-03"),
            command_id=said.command_id,
        )
        return False

    report = bring(casebook, log, file, stop=accept_one)
    issued = [e.number for e in events_of(casebook) if isinstance(e, NumberIssued)]
    assert sorted(issued) == list(range(1, report.cases + 3))
    given = [e.number for e in events_of(casebook) if isinstance(e, ComplaintImported)]
    assert len(set(given)) == report.cases


@rule("CC-08")
def test_two_imports_of_one_file_at_once_make_one(
    casebook: Casebook, log: ComplaintMapping, write: Callable[..., Path], tmp_path: Path
) -> None:
    file = write(*many(3 * CASES_AT_ONCE))
    opened(casebook)
    with ThreadPoolExecutor(3) as several:
        runs = [several.submit(bring, casebook, log, file, quarantine=tmp_path / str(n)) for n in range(3)]
    done = [run.result() for run in runs]
    assert all(report.cases == 3 * CASES_AT_ONCE for report in done)
    issued = [e.number for e in events_of(casebook) if isinstance(e, NumberIssued)]
    assert issued == list(range(1, 3 * CASES_AT_ONCE + 1))
    assert check_totals(casebook, log, file).agree


def test_a_longer_file_adds_only_what_is_new(
    casebook: Casebook, log: ComplaintMapping, write: Callable[..., Path]
) -> None:
    first = "a,2026-01-05T09:00,tel,,hear,2026-01-05T10:00,who,1"
    bring(casebook, log, write(first))
    report = bring(
        casebook,
        log,
        write(
            first,
            "a,2026-01-05T09:00,tel,2026-01-09T09:00,settle,2026-01-06T10:00,who,2",
            "b,2026-01-04T09:00,tel,,hear,2026-01-06T10:00,who,1",
        ),
    )
    assert (report.new_cases, report.known_cases, report.known_events) == (1, 1, 2)
    # the case, its number and its line; the other case's new line
    assert report.events == 4
    case = case_of(casebook, "a")
    assert case is not None
    assert case.stage == Stage.SETTLED
    # what the first line says of the case is what is taken: there it has not ended
    again = bring(casebook, log, write("a,2026-01-05T09:00,tel,2026-01-09T09:00,hear,2026-01-05T10:00,who,1"))
    assert again.events == 1
    case = case_of(casebook, "a")
    assert case is not None
    assert case.stage == Stage.FINISHED


def test_a_file_that_says_otherwise_later_changes_no_history(
    casebook: Casebook, log: ComplaintMapping, write: Callable[..., Path]
) -> None:
    bring(
        casebook,
        log,
        write(
            "a,2026-01-05T09:00,tel,,hear,2026-01-05T10:00,who,1",
            "b,2026-01-05T09:00,tel,2026-01-08T09:00,hear,2026-01-05T10:00,who,1",
        ),
    )
    head = casebook.head()
    report = bring(
        casebook,
        log,
        write(
            "a,2026-01-05T09:00,tel,,hear,2026-01-05T11:00,other,1",
            "b,2026-01-05T09:00,tel,2026-01-08T09:00,hear,2026-01-05T10:00,who,1",
            "b,2026-01-05T09:00,tel,2026-01-08T09:00,hear again,2026-01-09T10:00,who,2",
            "c,2026-01-05T09:00,tel,,hear,2026-01-05T10:00,who,1",
        ),
    )
    assert sorted(refused_lines(report)) == [(2, "line.otherwise"), (4, "complaint.import_ended")]
    assert casebook.head() == head + 3
    changed = bring(casebook, log, write("c,2026-01-06T09:00,tel,,hear,2026-01-05T10:00,who,1"))
    assert refused_lines(changed) == [(2, "complaint.exists")]


def test_lines_are_told_by_time_also_those_before_the_receipt(
    casebook: Casebook, log: ComplaintMapping, write: Callable[..., Path]
) -> None:
    bring(
        casebook,
        log,
        write(
            "a,2026-01-05T09:00,tel,2026-01-06T09:00,late,2026-01-07T10:00,who,3",
            "a,2026-01-05T09:00,tel,2026-01-06T09:00,early,2026-01-04T10:00,who,1",
            "a,2026-01-05T09:00,tel,2026-01-06T09:00,same first,2026-01-05T10:00,who,9",
            "a,2026-01-05T09:00,tel,2026-01-06T09:00,same second,2026-01-05T10:00,who,2",
        ),
    )
    history = [event for _, event in casebook.history(case_id(casebook.institution, "log", "a"))]
    assert [e.activity for e in history if isinstance(e, WorkRecorded)] == [
        "early",
        "same first",
        "same second",
        "late",
    ]
    assert isinstance(history[0], ComplaintImported)
    # the end is dated before the last line, as the file has it
    assert isinstance(history[-1], ImportedCaseEnded)
    assert history[-1].stamp.at == datetime(2026, 1, 6, 1, tzinfo=UTC)


def test_an_institution_that_is_not_open_takes_nothing(
    casebook: Casebook, log: ComplaintMapping, write: Callable[..., Path]
) -> None:
    with pytest.raises(Refused, match=r"institution\.unknown"):
        import_complaints(casebook, log, write(), ACTOR)
    with pytest.raises(Refused, match=r"access\.role"):
        import_complaints(opened(casebook), log, write(), ACTOR, roles=frozenset())
    assert casebook.head() == 1


def test_institutions_do_not_share_cases(house: House, log: ComplaintMapping, write: Callable[..., Path]) -> None:
    """test-list 36: the same file in two institutions."""
    file = write("a,2026-01-05T09:00,tel,,hear,2026-01-05T10:00,who,1")
    one, other = house.casebook("IMONE"), house.casebook("IMTWO")
    assert [bring(book, log, file).new_cases for book in (one, other)] == [1, 1]
    ids: list[UUID] = [case_id(book.institution, "log", "a") for book in (one, other)]
    assert ids[0] != ids[1]
    assert one.read(COMPLAINT, ids[1]) is None
