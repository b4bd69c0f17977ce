"""The command line as an operator meets it: what it says, and what it says when it cannot (on a real database)."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from api import cli
from api.cluster import LOGIN
from projections.views import VIEWS
from tests.conftest import Database, Server


@dataclass(frozen=True)
class Said:
    """How a command ended and what it wrote; lines are joined so that a narrow terminal does not matter."""

    code: int
    out: str
    err: str


Anjuan = Callable[..., Said]


@pytest.fixture
def anjuan(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Anjuan:
    """Run a command in this process on a database of the test's own."""
    monkeypatch.setenv("DATABASE_URL", database.app)
    monkeypatch.setenv("DATABASE_OWNER_URL", database.owner)
    monkeypatch.setenv("ANJUAN_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("ANJUAN_MASTER_KEY", "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s=")
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["anjuan", *words])
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
        written = capsys.readouterr()
        return Said(code, written.out, written.err)

    return run


EXPORT = """case,when,via
A-1,2026-01-05T09:00:00+08:00,phone
A-2,2026-01-06T09:00:00+08:00,phone
A-3,last week,phone
"""
MAPPING = """
name = "export"
[file]
rows = "cases"
[case]
id = "case"
received_at = "when"
channel = { column = "via", values = { phone = "telephone" } }
"""


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """An export of a user's own with one bad line, and the mapping they wrote for it."""
    (tmp_path / "export.csv").write_text(EXPORT, "utf-8")
    (tmp_path / "mine.toml").write_text(MAPPING, "utf-8")
    return str(tmp_path / "export.csv"), str(tmp_path / "mine.toml")


def test_from_an_export_to_a_replayed_case(anjuan: Anjuan, files: tuple[str, str], tmp_path: Path) -> None:
    export, mapping = files
    assert "anjuan_" in anjuan("open", "XY", "--name", "某医院").out
    first = anjuan("import", "complaints", export, "--mapping", mapping)
    assert first.code == 0, first.err
    assert "The histories agree with the file." in first.out
    assert "Replayed 2 cases" in first.out
    assert "Quarantined 1" in first.out
    [refused] = (tmp_path / "data" / "quarantine").iterdir()
    assert "last week" in refused.read_text("utf-8-sig")

    events = anjuan("status").out.split()
    again = anjuan("import", "complaints", export, "--mapping", mapping)
    assert again.code == 0
    assert anjuan("status").out.split()[:30] == events[:30]

    by_number, by_reference = anjuan("replay", "XY20260101").out, anjuan("replay", "A-1", "--blame").out
    assert "A-1" in by_number
    assert "XY20260101" in by_reference
    assert "set at position" in by_reference
    assert anjuan("verify").code == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["replay", "XY20269901"], "complaint.unknown"),
        (["replay", "A-1", "--at", "yesterday"], "time.format"),
        (["replay", "A-1", "--at", "2001-01-01"], "complaint.not_begun"),
        (["replay", "A-1", "--at", "2999-01-01"], "as_of.moment"),
        (["replay", "A-1", "--recorded", "2999-01-01T09:00:00+08:00"], "as_of.moment"),
        (["replay", "A-1", "--version", "9999"], "as_of.version"),
        (["replay", "A-1", "-i", "ZZ"], "institution.unknown"),
        (["replay", ""], "text.empty"),
        (["verify", "-i", "ZZ"], "institution.unknown"),
        (["verify", "no_such_view"], "view.unknown"),
        (["rebuild", "no_such_view"], "view.unknown"),
        (["open", "x", "--name", "n"], "institution.code"),
        (["open", "XZ", "--name", "n", "--time-zone", "Mars/Olympus"], "institution.time_zone"),
        (["open", "XZ", "--name", "a\x00b"], "text.nul"),
        (["open", "XY", "--name", "another"], "institution.already_open"),
        (["token", "-i", "NOPE"], "institution.unknown"),
        (["export", "cases", "/no/such/place/c.csv", "-i", "XY"], "/no/such/place"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence(
    anjuan: Anjuan, files: tuple[str, str], words: list[str], said: str
) -> None:
    anjuan("open", "XY", "--name", "某医院")
    anjuan("import", "complaints", files[0], "--mapping", files[1])
    before = anjuan("status").out
    answer = anjuan(*words)
    assert answer.code == 1
    assert said in answer.err
    assert "Traceback" not in answer.err
    assert anjuan("status").out == before


@pytest.mark.parametrize(
    ("content", "said"),
    [("", "empty"), ("case;when\n", "via"), (b"\xff\xfe\x00bad", ""), ("x" * 50, "")],
)
def test_a_file_that_is_not_the_export_is_refused_whole(
    anjuan: Anjuan, files: tuple[str, str], content: str | bytes, said: str
) -> None:
    anjuan("open", "XY", "--name", "某医院")
    Path(files[0]).write_bytes(content.encode() if isinstance(content, str) else content)
    answer = anjuan("import", "complaints", *files[:1], "--mapping", files[1])
    assert answer.code == 1
    assert said in answer.err
    assert "Traceback" not in answer.err


def test_a_mapping_with_a_mistake_is_named_with_its_key(anjuan: Anjuan, files: tuple[str, str]) -> None:
    anjuan("open", "XY", "--name", "某医院")
    Path(files[1]).write_text(MAPPING.replace("received_at", "recieved_at"), "utf-8")
    answer = anjuan("import", "complaints", files[0], "--mapping", files[1])
    assert answer.code == 1
    assert "recieved_at" in answer.err


def test_what_a_patient_wrote_is_shown_and_does_nothing_at_a_terminal(
    anjuan: Anjuan, files: tuple[str, str], tmp_path: Path
) -> None:
    anjuan("open", "XY", "--name", "某医院")
    words = "[/] [bold]钱[/bold] \x1b[2J \u202e"
    Path(files[0]).write_text(
        EXPORT.replace("when,via", "when,via,ward").replace("phone\n", f"phone,{words}\n"), "utf-8"
    )
    Path(files[1]).write_text(MAPPING + 'department = "ward"\n', "utf-8")
    assert anjuan("import", "complaints", files[0], "--mapping", files[1]).code == 0
    answer = anjuan("replay", "A-1", "--blame")
    assert answer.code == 0
    assert answer.out.count(r"[/] [bold]钱[/bold] \x1b[2J \x202e") == 2
    assert "\x1b" not in answer.out


def test_a_terminal_of_eighty_columns_shows_every_time_of_the_clocks(
    anjuan: Anjuan, files: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    anjuan("open", "XY", "--name", "某医院")
    anjuan("import", "complaints", files[0], "--mapping", files[1])
    monkeypatch.setattr("api.terminal.out.width", 80)
    assert "…" not in anjuan("replay", "A-1").out


def test_the_address_of_a_database_that_cannot_be_read_is_said(anjuan: Anjuan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "mysql://nobody@nowhere")
    monkeypatch.delenv("DATABASE_OWNER_URL")
    answer = anjuan("status")
    assert answer.code == 1
    assert "DATABASE_URL" in answer.err
    assert "Traceback" not in answer.err


def test_who_may_not_rebuild_is_told_whose_login_it_takes(
    anjuan: Anjuan, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    anjuan("open", "XY", "--name", "某医院")
    monkeypatch.setenv("DATABASE_OWNER_URL", database.app)
    answer = anjuan("rebuild", "complaint_case")
    assert answer.code == 1
    assert "DATABASE_OWNER_URL" in answer.err


@pytest.mark.parametrize("role", ["anjuan_app", "anjuan_reader", "anjuan_runner"])
def test_a_login_that_may_not_take_its_role_is_told_what_to_grant(server: Server, anjuan: Anjuan, role: str) -> None:
    if server.embedded is None:
        pytest.skip("the server given is asked as a superuser, who may take every role")
    with psycopg.connect(server.admin, autocommit=True) as admin:
        group, login = sql.Identifier(role), sql.Identifier(LOGIN)
        admin.execute(sql.SQL("REVOKE {} FROM {}").format(group, login))
        try:
            answer = anjuan("status")
        finally:
            admin.execute(sql.SQL("GRANT {} TO {}").format(group, login))
    assert answer.code == 1
    assert f"GRANT {role} TO {LOGIN};" in answer.err
    assert answer.err.count("GRANT") == 1
    assert anjuan("status").code == 0


def test_a_database_that_is_not_there_is_said(anjuan: Anjuan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    url = f"host={tmp_path} dbname=anjuan password=secret-word"
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.setenv("DATABASE_OWNER_URL", url)
    answer = anjuan("status")
    assert answer.code == 1
    assert "DATABASE_URL" in answer.err
    assert "secret-word" not in answer.err


def test_a_setting_that_cannot_be_is_named(anjuan: Anjuan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANJUAN_PORT", "99999")
    answer = anjuan("status")
    assert answer.code == 1
    assert "port" in answer.err
    monkeypatch.setenv("ANJUAN_PORT", "0")
    monkeypatch.setenv("ANJUAN_OIDC_ISSUER", "https://id.example.org")
    assert anjuan("status").err.startswith("settings: set ANJUAN_OIDC_ISSUER and ANJUAN_OIDC_AUDIENCE")


def test_a_tampered_view_is_found_and_rebuilt(anjuan: Anjuan, files: tuple[str, str], database: Database) -> None:
    anjuan("open", "XY", "--name", "某医院")
    anjuan("import", "complaints", files[0], "--mapping", files[1])
    with psycopg.connect(database.owner) as owner:
        owner.execute("UPDATE anjuan.complaint_case SET stage = 'finished' WHERE number = 'XY20260101'")
    found = anjuan("verify", "complaint_case")
    assert found.code == 1
    assert "stage is stored as" in found.out
    assert "is rebuilt" in anjuan("rebuild", "complaint_case").out
    assert anjuan("verify").code == 0


def test_a_rebuild_by_two_processes_gives_the_same(anjuan: Anjuan, files: tuple[str, str]) -> None:
    anjuan("open", "XY", "--name", "某医院")
    anjuan("import", "complaints", files[0], "--mapping", files[1])
    rebuilt = anjuan("rebuild", "--processes", "2")
    assert rebuilt.code == 0, rebuilt.err
    assert rebuilt.out.count("is rebuilt") == len(VIEWS)
    assert anjuan("verify").code == 0


def test_migrate_says_what_is_pending_and_applies_it_once(
    anjuan: Anjuan, empty_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", empty_database.owner)
    monkeypatch.setenv("DATABASE_OWNER_URL", empty_database.owner)
    assert "Pending 0001_event.sql" in anjuan("migrate", "--pending").out
    refused = anjuan("status")
    assert refused.code == 1
    assert "anjuan migrate" in refused.err
    assert "Applied 0001_event.sql" in anjuan("migrate").out
    assert "Applied" not in anjuan("migrate").out
    assert anjuan("migrate", "--pending").out == ""


def test_exports_hold_what_is_stored_and_personal_fields_only_if_asked(
    anjuan: Anjuan, files: tuple[str, str], tmp_path: Path
) -> None:
    anjuan("open", "XY", "--name", "某医院")
    anjuan("import", "complaints", files[0], "--mapping", files[1])
    with_names, without = tmp_path / "with.jsonl", tmp_path / "without.jsonl"
    assert anjuan("export", "history", str(without)).code == 0
    assert anjuan("export", "history", str(with_names), "--personal").code == 0
    assert "本地用户" in with_names.read_text("utf-8")
    assert "本地用户" not in without.read_text("utf-8")
    lines = [json.loads(line) for line in without.read_text("utf-8").splitlines()]
    assert [line["position"] for line in lines] == list(range(1, len(lines) + 1))
    assert anjuan("export", "cases", str(tmp_path / "cases.csv")).code == 0
    assert len((tmp_path / "cases.csv").read_text("utf-8-sig").splitlines()) == 3


def test_the_owner_of_the_keys_is_not_replaced(
    anjuan: Anjuan, files: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that has people's keys is not given a new master key because the old one is not at hand."""
    anjuan("open", "XY", "--name", "某医院")
    monkeypatch.delenv("ANJUAN_MASTER_KEY")
    answer = anjuan("open", "XZ", "--name", "某医院")
    assert answer.code == 1
    assert "no master key" in answer.err
    assert not os.path.exists(os.environ["ANJUAN_DATA"] + "/master.key")
