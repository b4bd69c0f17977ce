"""Mappings: how another system's export of complaints reads as case histories. A TOML file; no program is needed.

    name = "city_hotline"                    # names the source; the same name finds the same cases again
    about = "Export of the city hotline, one line per complaint."

    [file]
    rows = "cases"                           # "cases": one line per case; "log": one line per activity of a case
    delimiter = ";"                          # default ","
    encoding = "gb18030"                     # default "utf-8"; a byte order mark is taken off; .gz is unpacked

    [time]
    format = "%d.%m.%Y %H:%M"                # default "iso"; otherwise as strptime has it
    zone = "Asia/Shanghai"                   # for values that name no offset of their own
    not_before = 2000-01-01                  # lines with times outside these are quarantined
    not_after = 2100-01-01                   # if left out, what happened may not lie ahead of now

    [case]                                   # every key but id and received_at may be left out
    id = "Case no"                           # a column by its heading …
    received_at = { column = "Received", format = "%Y-%m-%d" }
    channel = { column = "Via", values = { Phone = "telephone", Mail = "letter" }, default = "other" }
    category = { constant = "fees" }         # … or the same for every case
    department = { column = "Ward", values = { "n/a" = "" } }
    responsible = "Handler"                  # a post or pseudonym, never a person's name
    planned_close_by = "Due"
    ended_at = "Closed"                      # empty: the case is still open
    result = "Outcome"

    [line]                                   # only with rows = "log"
    activity = "Step"
    occurred_at = "When"
    performer = "By"                         # a post or pseudonym
    unit = "Team"
    reference = "Step no"                    # a name of the line that no other line of the case has, if there is one
    stages = { "Heard" = "investigating", "Settled" = "settled" }

Blanks around a value are taken off. `values` replaces values; one it does not list is kept, unless `unknown` says
"default" or "refuse" (the line is quarantined). `default` stands in for an empty value. Channels, categories and stages
must come out as words of `domain/complaint_words.py`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from pydantic import AfterValidator, Field, ValidationError, model_validator

from api.exchange.columns import LONG_TEXT, AText, ATime, FileForm, Table, TextColumn, TimeForm, Unacceptable, short
from domain.complaint_words import Category, Channel, Stage

BUILT_IN = Path(__file__).parent / "mappings"
W = TypeVar("W", bound=StrEnum)


class MappingProblem(Exception):
    """The mapping cannot be used. The message names the file and, line by line, the table and key and what to do."""


def _among(words: type[StrEnum]) -> AfterValidator:
    def check(column: TextColumn) -> TextColumn:
        strange = [w for w in column.words() if w not in list(words)]
        if strange:
            raise ValueError(f"{strange[0]!r} is not one of {', '.join(words)}")
        return column

    return AfterValidator(check)


class CaseColumns(Table):
    """What a case is made from; read from the first line of the case that has it all."""

    id: AText
    received_at: ATime
    channel: Annotated[AText, _among(Channel)] = TextColumn(constant=Channel.OTHER)
    category: Annotated[AText, _among(Category)] = TextColumn(constant=Category.OTHER)
    department: AText = TextColumn(constant="")
    responsible: AText = TextColumn(constant="")
    planned_close_by: ATime | None = None
    ended_at: ATime | None = None
    result: AText = TextColumn(constant="")


class LineColumns(Table):
    """What one line of a log is made from."""

    activity: AText
    occurred_at: ATime
    performer: AText = TextColumn(constant="")
    unit: AText = TextColumn(constant="")
    reference: AText | None = None
    stages: dict[str, Annotated[Stage, Field(strict=False)]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _ends_by_its_end(self) -> Self:
        if Stage.FINISHED in self.stages.values():
            raise ValueError("no line finishes a case; name a column ended_at in [case] instead")
        return self


@dataclass(frozen=True)
class CaseSaid:
    """What the file says of a case as a whole."""

    reference: str
    received_at: datetime
    channel: Channel
    category: Category
    department: str
    responsible: str
    planned_close_by: datetime | None
    ended_at: datetime | None
    result: str


@dataclass(frozen=True)
class LineSaid:
    """What one line of a log says. `reference` is empty where the file names its lines by nothing."""

    activity: str
    occurred_at: datetime
    performer: str
    unit: str
    reference: str
    stage: Stage | None


class ComplaintMapping(Table):
    """A whole mapping; see the module's docstring for how one is written."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{1,49}$")
    about: str = ""
    file: FileForm
    time: TimeForm = TimeForm()
    case: CaseColumns
    line: LineColumns | None = None

    @model_validator(mode="after")
    def _lines_where_there_are_any(self) -> Self:
        if self.file.rows == "log" and self.line is None:
            raise ValueError('[file] rows = "log" needs a table [line]')
        if self.file.rows == "cases" and self.line is not None:
            raise ValueError('[line] needs [file] rows = "log"')
        return self

    def columns(self) -> dict[str, str]:
        """The headings the file must have, each with the key that asks for it."""
        wanted: dict[str, str] = {}
        for table, part in (("case", self.case), ("line", self.line)):
            for key in type(part).model_fields if part is not None else ():
                column = getattr(getattr(part, key), "column", None)
                if column is not None:
                    wanted.setdefault(column, f"[{table}] {key}")
        return wanted

    def reference(self, row: Mapping[str, str]) -> str:
        """The name of the case this line belongs to. Raises Unacceptable."""
        return self.case.id.of(row, "case.id", required=True)

    def case_said(self, row: Mapping[str, str]) -> CaseSaid:
        """What this line says of its case. Raises Unacceptable."""
        case, form = self.case, self.time
        received_at = case.received_at.of(row, "case.received_at", form)
        if received_at is None:
            raise Unacceptable(
                "case.received_at.empty", f"{case.received_at.column}: the case needs a time of receipt."
            )
        planned, ended = case.planned_close_by, case.ended_at
        return CaseSaid(
            reference=self.reference(row),
            received_at=received_at,
            channel=_word(case.channel.of(row, "case.channel"), Channel, "case.channel"),
            category=_word(case.category.of(row, "case.category"), Category, "case.category"),
            department=case.department.of(row, "case.department"),
            responsible=case.responsible.of(row, "case.responsible"),
            planned_close_by=planned.of(row, "case.planned_close_by", form, planned=True) if planned else None,
            ended_at=ended.of(row, "case.ended_at", form) if ended else None,
            result=case.result.of(row, "case.result", longest=LONG_TEXT),
        )

    def line_said(self, row: Mapping[str, str]) -> LineSaid:
        """What this line of a log says was done. Raises Unacceptable."""
        line = self.line
        assert line is not None, "only a log has lines"
        occurred_at = line.occurred_at.of(row, "line.occurred_at", self.time)
        if occurred_at is None:
            raise Unacceptable("line.occurred_at.empty", f"{line.occurred_at.column}: the line needs a time.")
        activity = line.activity.of(row, "line.activity", required=True)
        return LineSaid(
            activity=activity,
            occurred_at=occurred_at,
            performer=line.performer.of(row, "line.performer"),
            unit=line.unit.of(row, "line.unit"),
            reference=line.reference.of(row, "line.reference") if line.reference else "",
            stage=line.stages.get(activity),
        )


def load_mapping(path: Path) -> ComplaintMapping:
    """The mapping of a TOML file. Raises MappingProblem, which says everything that is wrong with it at once."""
    try:
        raw = tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as problem:
        raise MappingProblem(f"{path}: {problem.strerror or problem}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as problem:
        raise MappingProblem(f"{path}: not a TOML file: {problem}") from None
    try:
        return ComplaintMapping.model_validate(raw)
    except ValidationError as problem:
        lines = [f"{path}: {_place(e['loc'])}: {_said(e)}" for e in problem.errors(include_url=False)]
        raise MappingProblem("\n".join(lines)) from None


def built_in_mappings() -> dict[str, Path]:
    """The mappings that come with the house, by name."""
    return {file.stem: file for file in sorted(BUILT_IN.glob("*.toml"))}


def mapping_named(name: str) -> ComplaintMapping:
    """A mapping that comes with the house, by its name, or the user's own, by the path of its file."""
    known = built_in_mappings()
    path = known.get(name, Path(name))
    if name not in known and not path.exists():
        raise MappingProblem(f"There is no mapping {name}; give the path of a TOML file, or one of {', '.join(known)}.")
    return load_mapping(path)


def _word(value: str, words: type[W], key: str) -> W:
    try:
        return words(value)
    except ValueError:
        raise Unacceptable(f"{key}.unknown", f"{key}: {short(value)} is not one of {', '.join(words)}.") from None


def _place(loc: tuple[int | str, ...]) -> str:
    """`("case", "channel", "values")` as a person looks for it in the file: `[case] channel.values`."""
    if not loc:
        return "the file"
    table = f"[{loc[0]}]" if loc[0] in ("file", "time", "case", "line") else str(loc[0])
    return " ".join([table, ".".join(str(part) for part in loc[1:])]).strip()


def _said(error: Any) -> str:
    kind = error["type"]
    if kind == "extra_forbidden":
        return "this key is not known here; see the description of mappings for the keys there are"
    if kind == "missing":
        return "this key is missing"
    if kind == "model_type":
        return "write a column's heading, or a table with column or constant"
    return str(error["msg"]).removeprefix("Value error, ")
