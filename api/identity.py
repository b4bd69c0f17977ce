"""Global ids: which object of which type, and of which moment where it is shown as it was; opaque to whoever holds one.

An id is a tag and the values of a key in base64url; of a view's row, the view's name and the row's key. The institution
is not in it: an id is only ever looked up in the institution of whoever asks, so none can name another's row. Each
object has exactly one id, and reading is strict: what `Identity.write` would not write is none.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from struct import Struct
from typing import Any
from uuid import UUID

from domain.kernel import Refused
from projections.view import Key, View

ID_LENGTH_MAX = 200
"""Longest id there is, in characters."""
NODES_MAX = 100
"""Most ids of one question."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WHOLE = Struct(">q")
_END = b"\x00"
_THEN = "~"
"""What stands before the bound in the id of something shown as it was."""
_BOUNDS = {"version": b"v", "position": b"p", "occurred_at": b"o", "recorded_at": b"r"}
_BOUND = {mark[0]: name for name, mark in _BOUNDS.items()}
_SQL = {
    "uuid": "uuid_send({0})",
    "bigint": "int8send({0})",
    "text": "convert_to({0}, 'UTF8') || '\\x00'::bytea",
}


class NoIdentity(ValueError):
    """A text that is no id."""


@dataclass(frozen=True)
class Named:
    """What an id names: the tag of a type, the key within it, and the bound up to which events count, if it has one."""

    tag: str
    key: Key
    bound: tuple[str, int | datetime] | None = None


class Identity:
    """How the ids of one type are written: its tag, and the types of its key's values as PostgreSQL calls them."""

    def __init__(self, tag: str, types: Sequence[str], *, dated: bool = False) -> None:
        """`dated`: objects of this type are also shown as they were, under ids of their own."""
        assert all(type_ in _SQL for type_ in types), f"{tag}: no key of {types}"
        self.tag = tag
        self._types = tuple(types)
        self._dated = dated
        self._begin = tag.encode() + _END

    def write(self, key: Key, bounds: dict[str, Any] | None = None) -> str:
        """The id of an object; `bounds` is the one bound it is shown as of, or nothing."""
        said = [_write(type_, value) for type_, value in zip(self._types, key, strict=True)]
        id = _text(b"".join([self._begin, *said]))
        if not bounds:
            return id
        ((name, bound),) = bounds.items()
        number = (bound - _EPOCH) // timedelta(microseconds=1) if isinstance(bound, datetime) else bound
        return id + _THEN + _text(_BOUNDS[name] + _WHOLE.pack(number))

    def sql(self, columns: Sequence[str]) -> str:
        """The same id written by PostgreSQL, of the columns that hold the key."""
        parts = [_SQL[type_].format(column) for type_, column in zip(self._types, columns, strict=True)]
        said = " || ".join([f"'\\x{self._begin.hex()}'::bytea", *parts])
        return f"translate(encode({said}, 'base64'), E'+/=\\n', '-_')"

    def read(self, body: bytes, bound: bytes | None) -> Named:
        """What comes after the tag, and the bound if there is one; raises NoIdentity."""
        key: list[Any] = []
        for type_ in self._types:
            value, body = _read(type_, body)
            key.append(value)
        if body or (bound is not None and not self._dated):
            raise NoIdentity
        return Named(self.tag, tuple(key), None if bound is None else _bound(bound))


def dated(id: str) -> bool:
    """Whether an id names something as it was, which is dearer to find than as it is."""
    return _THEN in id


def of_view(view: View[Any], *, dated: bool = False) -> Identity:
    """The ids of a view's rows: its name and its key."""
    types = {column.name: column.type for column in view.columns}
    return Identity(view.name, [types[name] for name in view.key], dated=dated)


def named(id: str, known: Mapping[str, Identity], field: str) -> Named:
    """What an id names; refused with `node.id` when it is none that the house has written."""
    try:
        if len(id) > ID_LENGTH_MAX:
            raise NoIdentity
        row, then, bound = id.partition(_THEN)
        tag, end, body = _bytes(row).partition(_END)
        identity = known.get(tag.decode("ascii"))
        if not end or identity is None:
            raise NoIdentity
        found = identity.read(body, _bytes(bound) if then else None)
    except (NoIdentity, binascii.Error, UnicodeError):
        raise Refused(
            "node.id",
            "This is no id of an object here; send the `id` of one just as an answer gave it.",
            field=field,
        ) from None
    return found


def _text(whole: bytes) -> str:
    return base64.urlsafe_b64encode(whole).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    whole = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if _text(whole) != text:
        raise NoIdentity
    return whole


def _write(type_: str, value: Any) -> bytes:
    match type_:
        case "uuid":
            return value.bytes
        case "bigint":
            return _WHOLE.pack(value)
        case _:
            return str(value).encode() + _END


def _read(type_: str, body: bytes) -> tuple[Any, bytes]:
    if type_ == "text":
        said, end, rest = body.partition(_END)
        if not end:
            raise NoIdentity
        return said.decode(), rest
    size = 16 if type_ == "uuid" else _WHOLE.size
    if len(body) < size:
        raise NoIdentity
    return (UUID(bytes=body[:16]) if type_ == "uuid" else _WHOLE.unpack(body[:size])[0]), body[size:]


def _bound(said: bytes) -> tuple[str, int | datetime]:
    name = _BOUND.get(said[0]) if len(said) == 1 + _WHOLE.size else None
    if name is None:
        raise NoIdentity
    (number,) = _WHOLE.unpack(said[1:])
    if name in ("version", "position"):
        return name, number
    try:
        return name, _EPOCH + timedelta(microseconds=number)
    except OverflowError:
        raise NoIdentity from None
