"""Mappings: what may stand in one, what is said of one that is wrong, and what values come out of it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.exchange.columns import TextColumn, TimeColumn, TimeForm, Unacceptable
from api.exchange.mapping import MappingProblem, built_in_mappings, load_mapping, mapping_named

LEAST = """
name = "least"
[file]
rows = "cases"
[case]
id = "no"
received_at = "when"
"""


def written(directory: Path, text: str) -> Path:
    file = directory / "mapping.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_every_mapping_of_the_house_is_sound_and_named_like_its_file() -> None:
    assert [mapping_named(name).name for name in built_in_mappings()] == ["coselog_receipt", "phl_complaints"]


def test_a_mapping_needs_only_a_case_and_its_receipt(tmp_path: Path) -> None:
    said = load_mapping(written(tmp_path, LEAST)).case_said({"no": " 7 ", "when": "2026-01-07T09:30:00"})
    assert (said.reference, said.received_at) == ("7", datetime(2026, 1, 7, 1, 30, tzinfo=UTC))
    assert (said.channel, said.category, said.department, said.ended_at) == ("other", "other", "", None)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ('name = "least"', "name: "),
        ('rows = "cases"', "[file] rows: "),
        ('id = "no"', "[case] id: this key is missing"),
        ('received_at = "when"', "[case] received_at: this key is missing"),
    ],
)
def test_what_is_missing_is_named_with_file_table_and_key(tmp_path: Path, changed: str, said: str) -> None:
    file = written(tmp_path, LEAST.replace(changed, ""))
    with pytest.raises(MappingProblem) as problem:
        load_mapping(file)
    assert f"{file}: {said}" in str(problem.value)


@pytest.mark.parametrize(
    ("added", "said"),
    [
        ('[time]\nzone = "Mars/Olympus"', "[time] zone: no time zone is called 'Mars/Olympus'"),
        ('[time]\nformat = "yesterday"', '[time] format: write "iso" or a strptime format'),
        ("[time]\nnot_before = 2030-01-01\nnot_after = 2020-01-01", "not_before must be earlier"),
        ('[case.channel]\ncolumn = "via"\nvalues = { A = "phone" }', "[case] channel: 'phone' is not one of web_chat"),
        ('[case.category]\nconstant = "rude"', "[case] category: 'rude' is not one of"),
        ('[case.department]\ncolumn = "a"\nconstant = "b"', "give either a column or a constant"),
        ('[case.department]\ncolumn = "a"\nunknown = "default"', 'unknown = "default" needs a default'),
        ('[case.colour]\ncolumn = "a"', "[case] colour: this key is not known here"),
        ('[line]\nactivity = "a"\noccurred_at = "b"', '[line] needs [file] rows = "log"'),
    ],
)
def test_what_is_wrong_is_named_with_its_key(tmp_path: Path, added: str, said: str) -> None:
    with pytest.raises(MappingProblem) as problem:
        load_mapping(written(tmp_path, LEAST + added))
    assert said in str(problem.value)


@pytest.mark.parametrize(
    ("added", "said"),
    [
        ('encoding = "utf-9"', "[file] encoding: no encoding is called 'utf-9'"),
        ('delimiter = ";;"', "[file] delimiter: "),
        ('delimiter = "\\n"', "[file]: delimiter and quote must be"),
        ("delimiter = 3", "[file] delimiter: "),
    ],
)
def test_a_wrong_form_of_the_file_is_named(tmp_path: Path, added: str, said: str) -> None:
    with pytest.raises(MappingProblem) as problem:
        load_mapping(written(tmp_path, LEAST.replace("[case]", f"{added}\n[case]")))
    assert said in str(problem.value)


def test_everything_wrong_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(MappingProblem) as problem:
        load_mapping(written(tmp_path, 'name = "Bad Name"\n[file]\nrows = "maybe"\n[case]\nid = 3\n'))
    assert len(str(problem.value).splitlines()) == 4


@pytest.mark.parametrize("content", ["name = ", "\x00", 'name = "a"\nname = "b"'])
def test_what_is_no_toml_is_said_to_be_none(tmp_path: Path, content: str) -> None:
    with pytest.raises(MappingProblem, match="not a TOML file"):
        load_mapping(written(tmp_path, content))


def test_a_mapping_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(MappingProblem, match="coselog_receipt"):
        mapping_named("nowhere")
    with pytest.raises(MappingProblem, match="No such file"):
        load_mapping(tmp_path / "nowhere.toml")


def test_a_line_cannot_finish_a_case(tmp_path: Path) -> None:
    log = LEAST.replace('"cases"', '"log"') + '[line]\nactivity = "a"\noccurred_at = "b"\nstages = { X = "finished" }'
    with pytest.raises(MappingProblem, match="no line finishes a case"):
        load_mapping(written(tmp_path, log))


words = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=30)


@given(words, words, words)
def test_values_are_replaced_without_their_outer_blanks(value: str, listed: str, instead: str) -> None:
    column = TextColumn(column="c", values={listed.strip(): instead})
    expected = instead.strip() if value.strip() == listed.strip() else value.strip()
    assert column.of({"c": f"  {value}\t"}, "k") == expected


@given(words, words)
def test_an_unlisted_value_is_kept_replaced_or_refused_as_the_mapping_says(value: str, default: str) -> None:
    row = {"c": value}
    kept = TextColumn(column="c", values={"一": "二"}).of(row, "k")
    assert kept == value.strip()
    replaced = TextColumn(column="c", values={"一": "二"}, default=default, unknown="default").of(row, "k")
    assert replaced == default.strip()
    refusing = TextColumn(column="c", values={"一": "二"}, unknown="refuse")
    if value.strip():
        with pytest.raises(Unacceptable) as refusal:
            refusing.of(row, "k")
        assert refusal.value.code == "k.unknown"
    else:
        assert refusing.of(row, "k") == ""


@given(
    st.datetimes(datetime(1950, 1, 1), datetime(2020, 1, 1)),  # noqa: DTZ001 - said without an offset on purpose
    st.sampled_from(["Asia/Shanghai", "America/New_York", "Europe/Amsterdam", "Australia/Lord_Howe", "UTC"]),
)
def test_a_time_without_offset_is_of_the_mappings_zone(at: datetime, zone: str) -> None:
    form = TimeForm(zone=zone)
    # written down, nobody can tell the second of two equal times of day from the first
    expected = at.replace(tzinfo=ZoneInfo(zone), fold=0).astimezone(UTC)
    assert TimeColumn(column="t").of({"t": at.isoformat(sep=" ")}, "k", form) == expected
    written = TimeColumn(column="t", format="%d.%m.%Y %H:%M:%S.%f")
    assert written.of({"t": at.strftime("%d.%m.%Y %H:%M:%S.%f")}, "k", form) == expected


@given(st.text(max_size=40).filter(lambda value: value.strip() and "/" not in value))
def test_what_is_no_time_is_refused_and_never_guessed(value: str) -> None:
    with pytest.raises(Unacceptable) as refusal:
        TimeColumn(column="t", format="%m/%d/%y").of({"t": value}, "k", TimeForm())
    assert refusal.value.code == "k.not_a_time"


def test_a_time_outside_what_is_believed_is_refused() -> None:
    column = TimeColumn(column="t")
    for value in ("1899-12-30T00:00:00+00:00", "2999-01-01", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"):
        with pytest.raises(Unacceptable) as refusal:
            column.of({"t": value}, "k", TimeForm())
        assert refusal.value.code in ("k.out_of_range", "k.not_a_time")
