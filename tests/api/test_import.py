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

from api.exchange.history import history_digest, recorded_events, replay_all
from api.exchange.importer import CASES_AT_ONCE, ImportReport, import_complaints
from api.exchange.intake import case_id
from api.exchange.mapping import ComplaintMapping, load_mapping, mapping_named
from api.exchange.rows import FileProblem
from api.exchange.totals import check_totals
from domain.complaint import COMPLAINT, ComplaintCase, ComplaintImported, ImportedCaseEnded, Stage, WorkRecorded
from domain.kernel import Event, Refused, Stamp
from domain.series import COMPLAINT_SERIES, SERIES, NumberIssued, issue, series_id
from domain.store.casebook import Casebook, House
from tests.api.files import ACTOR, opened, public_file
from tests.conftest import MASTER_KEY, Database
from tests.rules import rule

COSELOG = "complaint/coselog_receipt.csv.gz"
PHL = "complaint/phl_complaints.csv.gz"
LOG = """
name = "log"
[file]
rows = "log"
[time]
zone = "Asia/Shanghai"
[case]
id = "case"
received_at = "received"
channel = { column = "via", values = { tel = "telephone" } }
ended_at = "ended"
[line]
activity = "what"
occurred_at = "when"
performer = "who"
reference = "line"
stages = { settle = "settled" }
"""
HEADING = "case,received,via,ended,what,when,who,line"


@pytest.fixture
def log(tmp_path: Path) -> ComplaintMapping:
    """A mapping of a small log."""
    file = tmp_path / "log.toml"
    file.write_text(LOG)
    return load_mapping(file)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes the lines of a small log to a file."""

    def written(*lines: str | bytes, heading: str = HEADING) -> Path:
        file = tmp_path / "log.csv"
        raw = [line if isinstance(line, bytes) else line.encode() for line in (heading, *lines)]
        file.write_bytes(b"\n".join(raw) + b"\n")
        return file

    return written


def bring(casebook: Casebook, mapping: ComplaintMapping, file: Path, **more: object) -> ImportReport:
    """Import into an open institution, with the quarantine beside the mapping's file or where it is said."""
    more.setdefault("quarantine", file.parent / "quarantine")
    return import_complaints(opened(casebook), mapping, file, ACTOR, **more)  # pyright: ignore[reportArgumentType]


def case_of(casebook: Casebook, reference: str, mapping: str = "log") -> ComplaintCase | None:
    return casebook.read(COMPLAINT, case_id(casebook.institution, mapping, reference))


def events_of(casebook: Casebook) -> list[Event]:
    return [event for batch in recorded_events(casebook) for event in casebook.bodies.to_events(batch)]


def refused_lines(report: ImportReport) -> list[tuple[int, str]]:
    assert report.quarantine_file is not None
    with report.quarantine_file.open(encoding="utf-8-sig", newline="") as file:
        return [(int(row["line"]), row["code"]) for row in csv.DictReader(file)]


# the public data


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


# numbers


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


# what the file says later


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


# what cannot be taken over


def test_every_line_that_cannot_be_taken_over_is_quarantined_alone(
    casebook: Casebook, log: ComplaintMapping, write: Callable[..., Path]
) -> None:
    good = "a,2026-01-05T09:00,tel,,hear,2026-01-05T10:00,who,1"
    file = write(
        good,  # 2
        ",2026-01-05T09:00,tel,,no case,2026-01-05T10:00,who,2",
        "b,,tel,,no receipt,2026-01-05T10:00,who,1",
        "b,,tel,,no receipt either,2026-01-05T11:00,who,2",
        "a,2026-01-05T09:00,tel,,,2026-01-05T10:00,no activity,6",
        "a,2026-01-05T09:00,tel,,hear,yesterday,who,7",
        "a,2026-01-05T09:00,tel,,hear",
        good,
        "a,2026-01-05T09:00,tel,,other words,2026-01-05T10:00,who,1",
        "a,2026-01-05T09:00,tel,,nul\0here,2026-01-05T10:00,who,8",
        b"a,2026-01-05T09:00,tel,,\xe6\x8a\x95\xff,2026-01-05T10:00,who,9",
        "c,2026-01-05T09:00,pigeon,,hear,2026-01-05T10:00,who,1",
        "",
        f"a,2026-01-05T09:00,tel,,{'长' * 200_000},2026-01-05T10:00,who,10",
        f"a,2026-01-05T09:00,tel,,{'x' * 10_000_000},2026-01-05T10:00,who,11",
        f"a,2026-01-05T09:00,tel,,{'长' * 501},2026-01-05T10:00,who,12",
        "a,1948-01-05T09:00,tel,,hear,1848-01-05T10:00,who,13",
        "b2,2026-01-05T09:00,tel,,the last,2026-01-05T10:00,who,1",
    )
    report = bring(casebook, log, file)
    assert sorted(refused_lines(report)) == [
        (3, "case.id.empty"),
        (4, "case.received_at.empty"),
        (5, "case.received_at.empty"),
        (6, "line.activity.empty"),
        (7, "line.occurred_at.not_a_time"),
        (8, "row.columns"),
        (9, "line.duplicate"),
        (10, "line.otherwise"),
        (11, "row.nul"),
        (12, "row.encoding"),
        (13, "case.channel.unknown"),
        (15, "row.not_csv"),
        (16, "row.too_long"),
        (17, "line.activity.too_long"),
        (18, "line.occurred_at.out_of_range"),
    ]
    assert report.quarantined.total() == 15
    assert (report.rows, report.cases, report.new_cases) == (17, 2, 2)
    assert [e.activity for e in events_of(casebook) if isinstance(e, WorkRecorded)] == ["hear", "the last"]
    assert case_of(casebook, "b") is None


def test_a_quote_that_is_never_closed_spoils_its_lines_and_they_are_named(
    casebook: Casebook, log: ComplaintMapping, write: Callable[..., Path]
) -> None:
    report = bring(
        casebook,
        log,
        write(
            "a,2026-01-05T09:00,tel,,hear,2026-01-05T10:00,who,1",
            'a,2026-01-05T09:00,tel,,"open,2026-01-05T10:00,who,2',
            "a,2026-01-05T09:00,tel,,swallowed,2026-01-05T10:00,who,3",
        ),
    )
    assert report.quarantine_file is not None
    with report.quarantine_file.open(encoding="utf-8-sig", newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["line"], row["last_line"], row["code"]) == ("3", "4", "row.not_csv")
    assert "swallowed" in row["kept"]
    assert report.new_cases == 1


def test_what_a_spreadsheet_would_run_is_kept_as_text_and_for_the_operator_only(
    casebook: Casebook, log: ComplaintMapping, write: Callable[..., Path]
) -> None:
    report = bring(casebook, log, write("=1+1,,tel,,hear,2026-01-05T10:00,who,1"))
    assert report.quarantine_file is not None
    with report.quarantine_file.open(encoding="utf-8-sig", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["case"] == "'=1+1"
    assert row["kept"].startswith("'=1+1")
    assert report.quarantine_file.stat().st_mode & 0o077 == 0
    # when nothing is refused any more, no stale file is left
    report.quarantine_file.unlink()
    clean = bring(casebook, log, write("a,2026-01-05T09:00,tel,,hear,2026-01-05T10:00,who,1"))
    assert clean.quarantine_file is None
    assert list((write().parent / "quarantine").iterdir()) == []


def test_lines_without_names_are_known_by_their_words(
    casebook: Casebook, tmp_path: Path, write: Callable[..., Path]
) -> None:
    file = tmp_path / "unnamed.toml"
    file.write_text(LOG.replace('reference = "line"\n', ""))
    mapping = load_mapping(file)
    line = "a,2026-01-05T09:00,tel,,hear,2026-01-05T10:00,who,"
    report = bring(casebook, mapping, write(line, line, line.replace("10:00", "11:00")))
    assert refused_lines(report) == [(3, "line.duplicate")]
    assert bring(casebook, mapping, write(line, line.replace("10:00", "11:00"))).events == 0


def test_references_with_slashes_are_not_mixed_up(
    casebook: Casebook, log: ComplaintMapping, write: Callable[..., Path]
) -> None:
    report = bring(
        casebook,
        log,
        write(
            "a,2026-01-05T09:00,tel,,hear,2026-01-05T10:00,who,b/c",
            "a/line,2026-01-05T09:00,tel,,hear,2026-01-05T10:00,who,b/c",
            "a/line/b,2026-01-05T09:00,tel,,hear,2026-01-05T10:00,who,c",
        ),
    )
    assert (report.new_cases, report.events, report.quarantined.total()) == (3, 9, 0)


# files that cannot be read


def spoiled(file: Path, kind: str) -> Path:
    text = f"{HEADING}\n" + "a,2026-01-05T09:00,tel,,hear,2026-01-05T10:00,who,1\n" * 2000
    packed = gzip.compress(text.encode())
    content = {
        "empty": b"",
        "other table": b"x,y\n1,2\n",
        "heading twice": text.replace("via,", "case,", 1).encode(),
        "utf-16": text.encode("utf-16"),
        "not gzip": text.encode(),
        "cut": packed[: len(packed) // 2],
        "broken": packed[:40] + b"\xff\xff\xff" + packed[43:],
    }[kind]
    path = file / ("log.csv.gz" if kind in ("not gzip", "cut", "broken") else "log.csv")
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("empty", "the file is empty"),
        ("other table", r"no column 'case' \(for \[case\] id\).*has the columns 'x', 'y'"),
        ("heading twice", "the heading 'case' stands there twice"),
        ("utf-16", "no column 'case'.*read as utf-8"),
        ("not gzip", "not a gzip file"),
        ("cut", "cut short"),
        ("broken", "damaged|not a gzip file"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_the_remedy_and_leaves_nothing(
    casebook: Casebook, log: ComplaintMapping, tmp_path: Path, kind: str, said: str
) -> None:
    head = opened(casebook).head()
    with pytest.raises(FileProblem, match=said) as problem:
        bring(casebook, log, spoiled(tmp_path, kind))
    assert str(tmp_path) in str(problem.value)
    assert casebook.head() == head


def test_no_file_and_a_directory_are_said_to_be_so(casebook: Casebook, log: ComplaintMapping, tmp_path: Path) -> None:
    for path, said in ((tmp_path / "nowhere.csv", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(FileProblem, match=said):
            bring(casebook, log, path)


def test_a_byte_order_mark_and_another_encoding_are_read(casebook: Casebook, tmp_path: Path) -> None:
    mapping = tmp_path / "m.toml"
    text = "编号;日期\n甲/1;2026-01-05 09:00\n"
    head = 'name = "chinese"\n[file]\nrows = "cases"\ndelimiter = ";"\n{}[case]\nid = "编号"\nreceived_at = "日期"\n'
    (tmp_path / "bom.csv").write_bytes(text.encode("utf-8-sig"))
    mapping.write_text(head.format(""), encoding="utf-8")
    assert bring(casebook, load_mapping(mapping), tmp_path / "bom.csv").new_cases == 1
    (tmp_path / "gb.csv").write_bytes(text.encode("gb18030"))
    with pytest.raises(FileProblem, match="read as utf-8"):
        bring(casebook, load_mapping(mapping), tmp_path / "gb.csv")
    mapping.write_text(head.format('encoding = "gb18030"\n'), encoding="utf-8")
    again = bring(casebook, load_mapping(mapping), tmp_path / "gb.csv")
    assert (again.new_cases, again.known_cases) == (0, 1)


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
