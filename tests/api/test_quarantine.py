"""What an import cannot take over: lines, kept with place and reason; files, refused with the remedy."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from api.exchange.columns import TimeForm
from api.exchange.mapping import ComplaintMapping, load_mapping
from api.exchange.rows import FileProblem
from domain.complaint import WorkRecorded
from domain.store.casebook import Casebook
from tests.api.files import opened
from tests.api.logs import HEADING, LOG, bring, case_of, events_of, log, refused_lines, write

__all__ = ["log", "write"]


def test_what_has_not_happened_yet_is_quarantined_unless_the_mapping_says_how_far_ahead(
    casebook: Casebook, log: ComplaintMapping, write: Callable[..., Path]
) -> None:
    file = write(
        "a,2026-01-05T09:00,tel,,hear,2026-01-05T10:00,who,1",
        "b,2099-01-05T09:00,tel,,hear,2026-01-05T10:00,who,1",
        "a,2026-01-05T09:00,tel,,hear again,2099-01-05T10:00,who,2",
    )
    refused = refused_lines(bring(casebook, log, file))
    assert sorted(refused) == [(3, "case.received_at.in_future"), (4, "line.occurred_at.in_future")]
    ahead = log.model_copy(update={"time": TimeForm(not_after=date(2100, 1, 1))})
    assert bring(casebook, ahead, file).quarantine_file is None


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
