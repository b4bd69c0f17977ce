"""Exports: every event and case, personal fields only when asked for, whole files or none."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Generator
from pathlib import Path

import pytest

from api.demo import demo
from api.demo.group import HOSPITALS
from api.exchange.export import WITHHELD, ExportProblem, ExportStopped, export_cases, export_history
from domain.complaint import ComplaintReceived
from domain.personal import personal_fields
from domain.store.casebook import Casebook, House
from projections.runner import catch_up
from projections.views import VIEWS
from tests.conftest import MASTER_KEY, Database


@pytest.fixture
def played(database: Database) -> Generator[Casebook]:
    """The smallest institution of the demonstration, its views read."""
    with House(database.app, MASTER_KEY) as house:
        demo(house, 5, hospitals=HOSPITALS[2:])
        catch_up(house, VIEWS.values())
        yield house.casebook("CD")


def lines(file: Path) -> list[dict[str, object]]:
    raw = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    return [json.loads(line) for line in raw.decode().splitlines()]


def test_every_event_is_a_line_and_nothing_personal_is_told_unasked(played: Casebook, tmp_path: Path) -> None:
    written = export_history(played, tmp_path / "h.jsonl.gz")
    told = lines(tmp_path / "h.jsonl.gz")
    assert written == len(told) == played.head()
    assert [line["position"] for line in told] == list(range(1, played.head() + 1))
    full = tmp_path / "full.jsonl"
    export_history(played, full, personal=True)
    received = next(line for line in lines(full) if line["topic"] == ComplaintReceived.topic)
    withheld = told[int(str(received["position"])) - 1]
    body, hidden = received["body"], withheld["body"]
    assert isinstance(body, dict)
    assert isinstance(hidden, dict)
    for name in personal_fields(ComplaintReceived):
        if body[name]:
            assert hidden[name] == WITHHELD
            assert body[name] not in (tmp_path / "h.jsonl.gz").read_text("latin-1")
    assert full.stat().st_mode & 0o077 == 0
    plain = gzip.decompress((tmp_path / "h.jsonl.gz").read_bytes()).decode()
    assert body["statement"] not in plain
    assert body["complainant"] + '"' not in plain


def test_every_case_is_a_line_as_the_list_shows_it(played: Casebook, tmp_path: Path) -> None:
    written = export_cases(played, tmp_path / "c.csv")
    export_cases(played, tmp_path / "p.csv", personal=True)
    with (tmp_path / "c.csv").open(encoding="utf-8-sig", newline="") as file:
        told = list(csv.DictReader(file))
    with (tmp_path / "p.csv").open(encoding="utf-8-sig", newline="") as file:
        full = list(csv.DictReader(file))
    assert written == len(told) == len(full) == 70
    assert [row["received_at"] for row in told] == sorted(row["received_at"] for row in told)
    assert {row["complainant"] for row in told} == {WITHHELD}
    assert all(row["complainant"] not in ("", WITHHELD) for row in full)
    assert [row["stage"] for row in told] == [row["stage"] for row in full]
    assert not any(cell.startswith(("=", "+", "-", "@")) for row in full for cell in row.values())


def test_a_file_takes_nobodys_place_and_a_stopped_export_leaves_none(played: Casebook, tmp_path: Path) -> None:
    (tmp_path / "there").write_text("mine")
    with pytest.raises(ExportProblem, match="choose another name"):
        export_history(played, tmp_path / "there")
    assert (tmp_path / "there").read_text() == "mine"
    with pytest.raises(ExportProblem, match="No such file"):
        export_cases(played, tmp_path / "no" / "where")
    with pytest.raises(ExportStopped):
        export_history(played, tmp_path / "h", stop=lambda: True)
    assert [file.name for file in tmp_path.iterdir()] == ["there"]
