"""Decisions as mutations: one generic road from a GraphQL field to a decision of the domain and back.

The arguments of a mutation are the keyword arguments of its decision, typed as the event that it returns types them.
The edge adds the command's id, when it happened and, if wanted, the version the decision was made upon.
"""

from __future__ import annotations

import dataclasses
import inspect
import time
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints
from uuid import UUID

import strawberry
import structlog
from strawberry.types.field import StrawberryField

from api.access.roles import Principal, must_be_allowed, must_be_in_scope
from api.chinese.words import FIELDS
from api.context import Context, Info, Reach, in_thread
from api.refusal import refusal, refused_by_store
from api.row import shown
from api.watch.account import Carried, account
from domain.credential import Scope, TokenIssued
from domain.kernel import Event, Fold, Refused, Role, Stamp, State, replay
from domain.policy import POLICIES, ComplaintPolicy, complaint_policy, policy_id
from domain.staff import STAFF, Staff
from domain.store.casebook import Casebook, CommandReused, Receipt
from domain.store.mapper import encode_body

FUTURE_MAX = timedelta(minutes=5)
"""How far ahead of ours a client's clock may be."""

STAFF_ARGUMENTS = frozenset(
    {"owner", "handler", "accused", "to", "responsible", "persons", "submitted_to", "approved_by"}
)
"""Arguments that name staff: they must be enrolled at the institution."""

_log: structlog.stdlib.BoundLogger = structlog.get_logger("anjuan.command")


@dataclass(frozen=True)
class Asked:
    """One command as the domain sees it."""

    casebook: Casebook
    policy: ComplaintPolicy
    stamp: Stamp
    id: UUID
    given: Mapping[str, Any]


@dataclass(frozen=True)
class Work:
    """What `casebook.act` is to do: decide on the stream, and on those in `also`."""

    decide: Callable[..., Event | Sequence[Event] | None]
    also: Sequence[tuple[Fold, UUID]] = ()


@dataclass(frozen=True)
class Command:
    """A decision anyone of `allowed` may ask for. `name` is the mutation's, `term` the rule books' word for it.

    `decide` is the decision: a method of the state, or a function of the state that is not there yet (`begins`).
    `prepare` makes the work of it where more than the stream itself is needed; `supplied` are arguments it supplies,
    `optional` those it supplies when they are left out; `typed` gives the GraphQL types of arguments that are values of
    a type of their own. `stream` names the one stream of this kind that an institution has.
    """

    name: str
    term: str
    fold: Fold
    decide: Callable[..., Any]
    allowed: frozenset[Role]
    unknown: Callable[[UUID], Refused]
    begins: bool = False
    prepare: Callable[[Command, Asked], Work] | None = None
    supplied: frozenset[str] = frozenset()
    optional: frozenset[str] = frozenset()
    typed: Mapping[str, Any] = field(default_factory=dict[str, Any])
    stream: Callable[[str], UUID] | None = None

    @property
    def events(self) -> tuple[type[Event], ...]:
        """The events the decision may return, from its annotation."""
        said = get_type_hints(self.decide)["return"]
        options = get_args(said) if get_origin(said) in (Union, types.UnionType) else (said,)
        return tuple(o for o in options if inspect.isclass(o) and issubclass(o, Event))

    @property
    def arguments(self) -> list[inspect.Parameter]:
        """The decision's own arguments."""
        _, *found = inspect.signature(self.decide).parameters.values()  # the first is the state
        return [p for p in found if p.name not in ("stamp", "policy") and p.name not in self.supplied]

    @property
    def takes_id(self) -> bool:
        """Whether the decision wants the id of the stream it begins."""
        return "id" in inspect.signature(self.decide).parameters

    @property
    def asks_policy(self) -> bool:
        """Whether the decision wants the policy in force."""
        return "policy" in inspect.signature(self.decide).parameters

    def work(self, asked: Asked) -> Work:
        """What is to be done for this command."""
        if self.prepare is not None:
            return self.prepare(self, asked)

        def decide(state: Any) -> Event | Sequence[Event] | None:
            return self.call(state, asked)

        return Work(decide)

    def call(self, state: Any, asked: Asked, **more: Any) -> Any:
        """Decide. `more` are the arguments that are supplied here and not by the client."""
        policy = (asked.policy,) if self.asks_policy else ()
        return self.decide(state, asked.stamp, *policy, **asked.given, **more)


def mutation(command: Command, decided: Callable[[UUID, Receipt], Any], answer: Any) -> StrawberryField:
    """The GraphQL field of a command; `decided` makes what `answer`, a union with Refusal, holds on success."""

    async def resolve(info: Info, **arguments: Any) -> Any:
        return await carry_out(info.context, command, decided, arguments)

    parameters = [
        inspect.Parameter("info", inspect.Parameter.KEYWORD_ONLY, annotation=Info),
        _parameter("command_id", UUID, "指令编号 – made by you; the same command sent again gets its first answer."),
        *_id_parameter(command),
        *(_argument(command, p) for p in command.arguments if p.name != "id"),
        _parameter("occurred_at", datetime | None, "发生时间 – when it happened; now, if left out.", None),
    ]
    if not command.begins:
        sentence = "The version you decided upon; refused with stream.stale if more has happened since."
        parameters.append(_parameter("expected_version", shown(int) | None, sentence, None))
    resolve.__name__ = command.name
    vars(resolve)["__signature__"] = inspect.Signature(parameters, return_annotation=answer)
    resolve.__annotations__ = {p.name: p.annotation for p in parameters} | {"return": answer}
    said = " ".join((inspect.getdoc(command.decide) or "").split())
    return strawberry.field(resolver=resolve, name=command.name, description=f"{command.term} – {said}")


def _id_parameter(command: Command) -> list[inspect.Parameter]:
    if command.stream is not None:
        return []
    if command.begins:
        return [_parameter("id", UUID | None, "标识 – made by you or, if left out, from the command id.", None)]
    return [_parameter("id", UUID, "标识")]


def _parameter(name: str, kind: Any, said: str | None, *default: Any) -> inspect.Parameter:
    annotation = Annotated[kind, strawberry.argument(description=said)] if said else kind
    value = default[0] if default else inspect.Parameter.empty
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=value)


def _argument(command: Command, parameter: inspect.Parameter) -> inspect.Parameter:
    """An argument, typed as the event types the field of its name, else as the decision does."""
    name = parameter.name
    if name in command.typed:
        return _parameter(name, command.typed[name], FIELDS.get(name))
    fields = [get_type_hints(event)[name] for event in command.events if name in get_type_hints(event)]
    kind = shown(fields[0] if fields else get_type_hints(command.decide)[name])
    required = parameter.default is inspect.Parameter.empty and name not in command.optional
    options = [o for o in get_args(kind) if o is not type(None)]
    if get_origin(kind) in (Union, types.UnionType) and len(options) == 1:
        kind = options[0]
    if required:
        return _parameter(name, kind, FIELDS.get(name))
    return _parameter(name, kind | None, FIELDS.get(name), None)


async def carry_out(
    context: Context, command: Command, decided: Callable[[UUID, Receipt], Any], arguments: dict[str, Any]
) -> Any:
    """Carry a command out in a thread; its receipt as `decided` shows it, or a Refusal. Says one line to the log."""
    began = time.monotonic()
    command_id: UUID = arguments.pop("command_id")
    # what is begun without an id gets the same one however often the command is sent
    id: UUID = arguments.pop("id", None) or command_id
    if command.stream is not None:
        id = command.stream(context.institution)
    said = {"command": command.name, "institution": context.institution, "staff": str(context.principal.staff_id)}
    log = _log.bind(**said, command_id=str(command_id), stream=str(id), correlation=context.correlation)
    try:
        must_be_in_scope(context.principal, Scope.DECIDE)
        must_be_allowed(context.principal, command.allowed, command.name)
        receipt: Receipt = await in_thread(lambda: _act(context, command, command_id, id, arguments))
    except Refused as refused:
        log.info("refused", code=refused.code, field=refused.field, milliseconds=_since(began))
        account().commands.append(Carried("refused", code=refused.code))
        return refusal(refused)
    except Exception as problem:
        refused = refused_by_store(problem)
        if refused is None:
            log.error("failed", error=type(problem).__name__, milliseconds=_since(began))
            account().commands.append(Carried("failed"))
            raise
        log.warning("refused", code=refused.code, milliseconds=_since(began))
        account().commands.append(Carried("refused", code=refused.code))
        return refusal(refused)
    context.reach.wake()
    log.info("done", position=receipt.position, repeated=receipt.repeated, milliseconds=_since(began))
    account().commands.append(Carried("repeated") if receipt.repeated else Carried("done", len(receipt.events)))
    return decided(id, receipt)


def _since(began: float) -> int:
    return round((time.monotonic() - began) * 1000)


def _act(context: Context, command: Command, command_id: UUID, id: UUID, arguments: dict[str, Any]) -> Receipt:
    casebook, principal = context.casebook, context.principal
    occurred_at: datetime | None = arguments.pop("occurred_at")
    expected: int | None = arguments.pop("expected_version", None)
    at = occurred_at or context.now
    if at > context.now + FUTURE_MAX:
        raise Refused("time.in_future", "This lies in the future; check the time and its offset.", field="at")
    given = {name: value for name, value in arguments.items() if value is not None}
    asked = Asked(
        casebook=casebook,
        policy=_policy(context.reach, principal, at),
        stamp=Stamp(by=principal.staff_id, at=at, command_id=command_id, roles=principal.roles),
        id=id,
        given={"id": id, **given} if command.takes_id else given,
    )
    work = command.work(asked)

    def decide(state: State | None, *others: Any) -> Event | Sequence[Event] | None:
        if state is None and not command.begins:
            raise command.unknown(id)
        if state is not None and expected is not None and state.version != expected:
            raise Refused(
                "stream.stale",
                f"This is at version {state.version} by now, not {expected}; read it again and decide anew.",
                field="expected_version",
            )
        _staff_must_be_known(casebook, given)
        return work.decide(state, *others)

    taken = Refused("stream.taken", "This id belongs to something else; choose another.", field="id")
    fold = only(command.fold, taken if command.begins else command.unknown(id))
    try:
        receipt = casebook.act(fold, id, decide, command_id=command_id, also=work.also)
    except CommandReused:
        # sent twice at once without saying when it happened, it differs by the moment we filled in
        known = casebook.receipt(command_id)
        if known is None:
            raise
        receipt = known
    if receipt.repeated:
        _must_be_the_same(command, asked, receipt, occurred_at)
    return receipt


def only(fold: Fold, refused: Refused) -> Fold:
    """The same fold for an id from outside: refused when the stream turns out to be of another kind."""

    def evolve(state: Any, event: Event) -> Any:
        if not isinstance(event, fold.events):
            raise refused
        return fold.evolve(state, event)

    return dataclasses.replace(fold, evolve=evolve)


def _policy(reach: Reach, principal: Principal, at: datetime) -> ComplaintPolicy:
    """The policy in force at the principal's institution when it happened (OP-31)."""
    place = reach.institution(principal.institution).place
    known = reach.house.casebook(principal.institution).read(POLICIES, policy_id(principal.institution))
    return complaint_policy(known, place, at)


def _staff_must_be_known(casebook: Casebook, given: Mapping[str, Any]) -> None:
    """Whoever is named works here; whoever is to do something still does."""
    for name in STAFF_ARGUMENTS & given.keys():
        several = isinstance(given[name], list)
        for person in given[name] if several else [given[name]]:
            unknown = Refused(
                "staff.unknown", "There is no such person at your institution; check the id, or enrol them.", field=name
            )
            staff: Staff | None = casebook.read(only(STAFF, unknown), person)
            if staff is None:
                raise unknown
            if staff.left and not several:
                raise Refused("staff.left", "This person has left the institution; name another.", field=name)


def _must_be_the_same(command: Command, asked: Asked, receipt: Receipt, occurred_at: datetime | None) -> None:
    """A command known by its id is answered again only if it is the same command: same person, decision and words."""
    first = receipt.events[0]
    said_then = first.stamp.at if occurred_at is None else occurred_at
    if all(event.originator_id != asked.id for event in receipt.events):
        raise CommandReused  # that of another stream, which may be of another kind
    if first.stamp.by != asked.stamp.by or not isinstance(first, command.events) or first.stamp.at != said_then:
        raise CommandReused
    # decided once more upon what was known then; the posts held then are not kept, and are not what differs
    stamp = Stamp(by=first.stamp.by, at=said_then, command_id=first.stamp.command_id, roles=frozenset(Role))
    again = dataclasses.replace(asked, stamp=stamp)
    work = command.work(again)
    before = {e.originator_id: e.originator_version - 1 for e in reversed(receipt.events)}
    states: list[Any] = []
    for fold, stream in ((command.fold, asked.id), *work.also):
        history = asked.casebook.history(stream, version_max=before.get(stream))
        states.append(replay(fold, [event for _, event in history]))
    try:
        answer = work.decide(*states)
    except Refused:
        raise CommandReused from None
    events = (answer,) if isinstance(answer, Event) else tuple(answer or ())
    if [_words(e) for e in events] != [_words(e) for e in receipt.events]:
        raise CommandReused


def _words(event: Event) -> tuple[str, UUID, bytes]:
    """What was said, apart from what followed: clocks from a policy that may have changed since, tokens from chance."""
    moved = {name: () for name in ("stopped", "started") if hasattr(event, name)}
    drawn = {"token_id": "", "sha256": ""} if isinstance(event, TokenIssued) else {}
    return event.topic, event.originator_id, encode_body(dataclasses.replace(event, **moved, **drawn))
