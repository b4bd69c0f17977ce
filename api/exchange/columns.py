"""Where a mapping finds a value in a line, and how it is written there. `mapping` describes how they are used."""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from domain.kernel import Refused, text

SHORT_TEXT = 200
LONG_TEXT = 500


class Unacceptable(Exception):
    """One value of a line cannot be taken over; `code` counts alike ones, `sentence` names column and remedy."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(code, sentence)
        self.code = code
        self.sentence = sentence


def _known_encoding(name: str) -> str:
    try:
        known = codecs.lookup(name).name
        "".encode(known)
    except LookupError:
        raise ValueError(f"no encoding is called {name!r}; try utf-8 or gb18030") from None
    return "utf-8-sig" if known == "utf-8" else known


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        raise ValueError(f"no time zone is called {name!r}; name one of the IANA list, e.g. Asia/Shanghai") from None
    return name


def _from_heading(given: Any) -> Any:
    return {"column": given} if isinstance(given, str) else given


def _known_format(given: str) -> str:
    if given != "iso" and "%" not in given:
        raise ValueError('write "iso" or a strptime format such as "%d.%m.%Y %H:%M"')
    return given


Zone = Annotated[str, AfterValidator(_known_zone)]
Format = Annotated[str, AfterValidator(_known_format)]


class Table(BaseModel):
    """Every table of the file: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class FileForm(Table):
    """How the file is written."""

    rows: Literal["log", "cases"]
    delimiter: str = Field(default=",", min_length=1, max_length=1)
    quote: str = Field(default='"', min_length=1, max_length=1)
    encoding: Annotated[str, AfterValidator(_known_encoding)] = "utf-8-sig"

    @model_validator(mode="after")
    def _signs_differ(self) -> Self:
        if self.delimiter == self.quote or {self.delimiter, self.quote} & set("\r\n\0"):
            raise ValueError("delimiter and quote must be two different characters, neither of them a line break")
        return self


class TimeForm(Table):
    """How times are written, and which are believed."""

    format: Format = "iso"
    zone: Zone = "Asia/Shanghai"
    not_before: date = date(1900, 1, 1)
    not_after: date = date(2100, 1, 1)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.not_before >= self.not_after:
            raise ValueError("not_before must be earlier than not_after")
        return self


class TextColumn(Table):
    """Where a text comes from: a column, or the same constant for every line."""

    column: str | None = Field(default=None, min_length=1)
    constant: str | None = None
    values: dict[str, str] = Field(default_factory=dict)
    default: str | None = None
    unknown: Literal["keep", "default", "refuse"] = "keep"

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.column is None) == (self.constant is None):
            raise ValueError("give either a column or a constant")
        if self.constant is not None and (self.values or self.default is not None):
            raise ValueError("a constant has no values and no default")
        if self.unknown == "default" and self.default is None:
            raise ValueError('unknown = "default" needs a default')
        return self

    def words(self) -> list[str]:
        """Every text this can give that is written in the mapping itself."""
        return [w for w in (self.constant, self.default, *self.values.values()) if w is not None]

    def of(self, row: Mapping[str, str], key: str, *, longest: int = SHORT_TEXT, required: bool = False) -> str:
        """The text for this line. Raises Unacceptable."""
        if self.column is None:
            return self.constant or ""
        value = row[self.column].strip()
        if value in self.values:
            value = self.values[value]
        elif value and self.values and self.unknown != "keep":
            if self.unknown == "refuse":
                raise Unacceptable(f"{key}.unknown", f"{self.column}: {short(value)} is not listed in values.")
            value = self.default or ""
        value = value or self.default or ""
        try:
            return text(value, self.column, required=required, longest=longest)
        except Refused as refusal:
            raise Unacceptable(
                f"{key}.{refusal.code.rpartition('.')[2]}", f"{self.column}: {refusal.sentence}"
            ) from None


class TimeColumn(Table):
    """Where a time comes from and how it is written, where that differs from `[time]`."""

    column: str = Field(min_length=1)
    format: Format | None = None
    zone: Zone | None = None

    def of(self, row: Mapping[str, str], key: str, form: TimeForm, *, planned: bool = False) -> datetime | None:
        """The moment in UTC, None where the value is empty. Raises Unacceptable.

        What is not `planned` has happened: it may lie ahead of now only as far as the mapping's own `not_after` says.
        """
        value = row[self.column].strip()
        if not value:
            return None
        written = self.format or form.format
        try:
            at = datetime.fromisoformat(value) if written == "iso" else datetime.strptime(value, written)  # noqa: DTZ007
            if at.tzinfo is None:
                at = at.replace(tzinfo=ZoneInfo(self.zone or form.zone))
            at = at.astimezone(UTC)
        except (ValueError, OverflowError):
            sentence = f"{self.column}: {short(value)} is no time written as {written}."
            raise Unacceptable(f"{key}.not_a_time", sentence) from None
        if not form.not_before <= at.date() <= form.not_after:
            sentence = f"{self.column}: {short(value)} is not between {form.not_before} and {form.not_after}."
            raise Unacceptable(f"{key}.out_of_range", sentence)
        if not planned and "not_after" not in form.model_fields_set and at > datetime.now(UTC):
            sentence = f"{self.column}: {short(value)} is in the future; correct it, or say not_after in the mapping."
            raise Unacceptable(f"{key}.in_future", sentence)
        return at


AText = Annotated[TextColumn, BeforeValidator(_from_heading)]
ATime = Annotated[TimeColumn, BeforeValidator(_from_heading)]


def short(value: str) -> str:
    """The value as a sentence can show it."""
    return repr(value if len(value) <= 60 else value[:59] + "…")
