"""Events to bytes and back.

The body of an event is canonical JSON: sorted keys, no blanks, UTF-8, instants in UTC, decimals as text, no field that
has its default value (so a field added later with a default leaves every stored body as it was). Personal fields are
not in it; under the key `~` stands, for each person, base64 of nonce and AES-256-GCM ciphertext of their fields, bound
to this event by its associated data. The bytes are what is hashed, so they are never written again.
"""

from __future__ import annotations

import base64
import dataclasses
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, cast, get_args, get_type_hints
from uuid import UUID, uuid5

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from eventsourcing.domain import DomainEventProtocol
from eventsourcing.persistence import JSONTranscoder, StoredEvent
from eventsourcing.persistence import Mapper as LibraryMapper

from domain.kernel import FORMER, TOPICS, Event, Stamp, Upcast
from domain.personal import ERASED, personal_fields
from domain.store.keys import NONCE_BYTES, Keys
from domain.store.recorder import Envelope, Recorded

SEALED = "~"
ENVELOPE = frozenset({"originator_id", "originator_version", "stamp"})
_canonical = msgspec.json.Encoder(order="sorted", decimal_format="string", uuid_format="canonical")


class Undecodable(Exception):
    """Stored bytes that do not make the event their topic names. Says which event and what is wrong, never values."""


@dataclass(frozen=True)
class Shape:
    """How one event type is stored: its body as a struct, the defaults left out, and whose the personal fields are."""

    event: type[Event]
    decoder: msgspec.json.Decoder[Any]
    body: type[msgspec.Struct]
    defaults: dict[str, Any]
    personal: dict[str, str]
    nested: frozenset[str]
    """Fields that hold value objects: their defaults are left out too."""


@cache
def shape(event: type[Event]) -> Shape:
    """The stored form of an event type, worked out once."""
    hints = get_type_hints(event)
    personal = personal_fields(event)
    fields: list[tuple[str, Any, Any]] = [("sealed_", dict[str, str], msgspec.field(default_factory=dict, name=SEALED))]
    defaults: dict[str, Any] = {}
    for field in dataclasses.fields(event):
        if field.name in ENVELOPE:
            continue
        if field.default is not dataclasses.MISSING:
            defaults[field.name] = field.default
        elif field.default_factory is not dataclasses.MISSING:
            defaults[field.name] = field.default_factory()
        if field.name in personal:
            fields.append((field.name, hints[field.name], ERASED))
        elif field.name in defaults:
            fields.append((field.name, hints[field.name], defaults[field.name]))
        else:
            fields.append((field.name, hints[field.name], msgspec.NODEFAULT))
    body = msgspec.defstruct(event.__name__, fields, kw_only=True, frozen=True, forbid_unknown_fields=True)
    nested = frozenset(name for name, hint, _ in fields if _holds_values(hint))
    return Shape(event, msgspec.json.Decoder(body), body, defaults, personal, nested)


def plain_body(event: Event) -> dict[str, Any]:
    """The fields of the body that are stored: all but the envelope and those that have their default value."""
    form = shape(type(event))
    return {
        name: _plain(value) if name in form.nested else value
        for name, value in vars(event).items()
        if name not in ENVELOPE and not (name in form.defaults and form.defaults[name] == value)
    }


def _holds_values(hint: Any) -> bool:
    return dataclasses.is_dataclass(hint) or any(map(_holds_values, get_args(hint)))


def _plain(value: Any) -> Any:
    """A value object, or a tuple of them, without the fields that have their default value."""
    if isinstance(value, tuple):
        return [_plain(v) for v in cast("tuple[Any, ...]", value)]
    if not dataclasses.is_dataclass(value):
        return value
    defaults = _defaults(type(value))
    return {n: _plain(v) for n, v in vars(value).items() if not (n in defaults and defaults[n] == v)}


@cache
def _defaults(kind: type[Any]) -> dict[str, Any]:
    return {f.name: f.default for f in dataclasses.fields(kind) if f.default is not dataclasses.MISSING}


def encode_body(event: Event) -> bytes:
    """Canonical bytes of the whole body in the clear: for tests and digests, never for the database."""
    return _canonical.encode(plain_body(event))


def decode_body(topic: str, body: bytes, envelope: Envelope) -> Event:
    """The event of a body in the clear, written under this or a former topic."""
    return _event(topic, body, envelope, {}, "")


def subjects_of(event: Event) -> set[UUID]:
    """The people whose personal fields this event holds."""
    return {
        getattr(event, subject)
        for name, subject in shape(type(event)).personal.items()
        if getattr(event, name) is not None and getattr(event, subject) is not None
    }


class Mapper(LibraryMapper[UUID]):
    """Opens the events of any institution and, where it belongs to one, seals that institution's events."""

    def __init__(self, keys: Keys, institution: str | None = None) -> None:
        super().__init__(transcoder=JSONTranscoder())
        self.keys = keys
        self.institution = institution

    def to_envelopes(self, events: Sequence[Event]) -> list[Envelope]:
        """Seal the events of one command, in order; event ids follow from the command's id."""
        assert self.institution is not None, "this mapper only reads"
        people = {subject for event in events for subject in subjects_of(event)}
        keys = self.keys.ensured(self.institution, people) if people else {}
        return [self._seal(event, number, keys) for number, event in enumerate(events)]

    def _seal(self, event: Event, number: int, keys: dict[UUID, AESGCM]) -> Envelope:
        body = plain_body(event)
        parts: dict[UUID, dict[str, Any]] = {}
        for name, subject_field in shape(type(event)).personal.items():
            value = body.pop(name, None)
            subject = getattr(event, subject_field)
            if value is not None:
                assert subject is not None, f"{event.topic}.{name} is personal but {subject_field} names nobody"
                parts.setdefault(subject, {})[name] = value
        if parts:
            body[SEALED] = {str(s): self._encrypt(keys[s], s, fields, event) for s, fields in parts.items()}
        return Envelope(
            originator_id=event.originator_id,
            originator_version=event.originator_version,
            topic=event.topic,
            state=_canonical.encode(body),
            event_id=uuid5(event.stamp.command_id, str(number)),
            command_id=event.stamp.command_id,
            actor=event.stamp.by,
            occurred_at=event.stamp.at,
        )

    def _encrypt(self, key: AESGCM, subject: UUID, fields: dict[str, Any], event: Event) -> str:
        nonce = os.urandom(NONCE_BYTES)
        assert self.institution is not None
        bound = _bound(self.institution, event.originator_id, event.originator_version, event.topic, subject)
        return base64.b64encode(nonce + key.encrypt(nonce, _canonical.encode(fields), bound)).decode()

    def to_event(self, recorded: Recorded) -> Event:
        """One stored event; see `to_events`."""
        return self.to_events([recorded])[0]

    def to_events(self, batch: Iterable[Recorded]) -> list[Event]:
        """The events of these records of one institution, in order; the keys of all people in them by one query.

        Personal fields of a person whose key is gone read `ERASED`. Raises Undecodable.
        """
        batch = list(batch)
        people = {s for r in batch if _SEALED_MARK in r.state for s in _sealed_subjects(r)}
        keys = self.keys.existing(batch[0].institution, people) if people else {}
        return [_event(r.topic, r.state, r, keys, r.institution) for r in batch]

    def to_stored_event(self, domain_event: DomainEventProtocol[UUID]) -> StoredEvent:
        """The library's name for sealing one event."""
        return self.to_envelopes([cast(Event, domain_event)])[0]

    def to_domain_event(self, stored_event: StoredEvent) -> DomainEventProtocol[UUID]:
        """The library's name for opening one event."""
        assert isinstance(stored_event, Recorded), "our recorder reads whole envelopes"
        return cast(DomainEventProtocol[UUID], self.to_event(stored_event))


_SEALED_MARK = b'"~":{"'


class _Sealed(msgspec.Struct):
    sealed: dict[str, str] = msgspec.field(default_factory=dict[str, str], name=SEALED)


_sealed_decoder = msgspec.json.Decoder(_Sealed)


def _sealed_subjects(recorded: Recorded) -> list[UUID]:
    try:
        return [UUID(s) for s in _sealed_decoder.decode(recorded.state).sealed]
    except (msgspec.MsgspecError, ValueError):
        return []  # opening it will say what is wrong


def _bound(institution: str, originator_id: UUID | str, version: int, topic: str, subject: UUID) -> bytes:
    return f"{institution}/{originator_id}/{version}/{topic}/{subject}".encode()


def _event(
    topic: str, state: bytes, envelope: Envelope | Recorded, keys: dict[UUID, AESGCM], institution: str
) -> Event:
    try:
        event_type = TOPICS.get(topic)
        if event_type is not None:
            form = shape(event_type)
            fields = msgspec.structs.asdict(form.decoder.decode(state))
        else:
            event_type, upcast = FORMER[topic]
            form = shape(event_type)
            fields = _upcast(form, upcast, state)
        sealed: dict[str, str] = fields.pop("sealed_")
        if sealed and not form.personal:
            raise ValueError("nothing of this event is personal")
        if form.personal:
            _open(form, fields, sealed, envelope, keys, institution, topic)
    except KeyError:
        raise Undecodable(f"No event is known by the topic {topic!r}; is this program older than its data?") from None
    except (msgspec.MsgspecError, InvalidTag, ValueError) as problem:
        what = str(problem) if isinstance(problem, msgspec.MsgspecError) else "its sealed part does not open"
        raise Undecodable(
            f"Version {envelope.originator_version} of stream {envelope.originator_id} is not a {topic!r}: {what}"
        ) from None
    fields["originator_id"] = envelope.originator_id
    fields["originator_version"] = envelope.originator_version
    stamp = object.__new__(Stamp)
    stamp.__dict__.update(by=envelope.actor, at=envelope.occurred_at, command_id=envelope.command_id, roles=_NO_ROLES)
    fields["stamp"] = stamp
    event = object.__new__(event_type)
    event.__dict__.update(fields)
    return event


_NO_ROLES: frozenset[Any] = frozenset()


def _upcast(form: Shape, upcast: Upcast, state: bytes) -> dict[str, Any]:
    raw: dict[str, Any] = msgspec.json.decode(state)
    sealed = raw.pop(SEALED, {})
    raw = upcast(raw)
    if sealed:
        raw[SEALED] = sealed
    return msgspec.structs.asdict(msgspec.convert(raw, form.body))


def _open(
    form: Shape, fields: dict[str, Any], sealed: dict[str, str], envelope: Envelope | Recorded,
    keys: dict[UUID, AESGCM], institution: str, topic: str,
) -> None:  # fmt: skip
    """Put the personal fields in their place: what the keys open, `ERASED` where the key is gone, else the default."""
    opened: dict[str, Any] = {}
    erased: set[UUID] = set()
    for text, blob in sealed.items():
        subject = UUID(text)
        key = keys.get(subject)
        if key is None:
            erased.add(subject)
            continue
        raw = base64.b64decode(blob, validate=True)
        bound = _bound(institution, envelope.originator_id, envelope.originator_version, topic, subject)
        opened |= msgspec.json.decode(key.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], bound))
    for name, subject_field in form.personal.items():
        if name in opened:
            fields[name] = opened[name]
        elif fields[name] is ERASED and fields[subject_field] not in erased:
            fields[name] = form.defaults.get(name)
