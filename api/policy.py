"""The complaint policy over GraphQL: what is in force when, and publishing the next one (OP-31)."""

import dataclasses
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated
from uuid import UUID

import strawberry
from strawberry.tools import create_type

from api.command import Asked, Command, Work, mutation
from api.context import Info, in_thread
from api.decided import Answer, decided
from api.row import closed_set
from api.scalars import BigInt
from domain.calendar import Unit
from domain.kernel import Event, Refused, Role
from domain.policy import POLICIES, STATUTORY, Policies, PolicyValue, complaint_policy, policy_id, publish

closed_set(Unit)


@strawberry.input(description="制度数值 – one figure of a policy: an amount of a unit, or words.")
class PolicyValueInput:
    """As `domain.policy.PolicyValue`."""

    key: str
    unit: Unit
    amount: BigInt | None = None
    words: str = ""
    rule: str = strawberry.field(default="", description="依据 – the rule it comes from.")
    assumed: bool = strawberry.field(default=False, description="The rule's own figure is lost; this is a default.")
    note: str = ""


@strawberry.type(name="PolicyValue", description="制度数值 – one figure of the policy in force.")
class PolicyValueShown:
    """As `domain.policy.PolicyValue`, with what the law says."""

    key: str
    unit: Unit
    amount: BigInt | None
    words: str
    rule: str
    assumed: bool = strawberry.field(description="原文缺失 – the rule's own figure is lost; this is a default.")
    note: str
    statutory: str | None = strawberry.field(
        description="法定上限 – the law's limit, which is applied if it is shorter."
    )


@strawberry.type(name="ComplaintPolicy", description="投诉制度 – the complaint policy in force at a moment.")
class ComplaintPolicyShown:
    """A complete policy."""

    id: UUID
    version: BigInt = strawberry.field(description="0: the house's defaults, before any was published.")
    values: list[PolicyValueShown]


@strawberry.type
class PolicyQuery:
    """Questions about policies."""

    @strawberry.field(description="投诉制度 – the complaint policy in force now, or at a moment.")
    async def complaint_policy(
        self, info: Info, at: Annotated[datetime | None, strawberry.argument(description="何时")] = None
    ) -> ComplaintPolicyShown:
        """Every figure with its source; the law's limits beside them."""
        context = info.context
        context.may_ask("complaintPolicy")

        def read() -> ComplaintPolicyShown:
            place = context.reach.institution(context.institution).place
            known: Policies | None = context.casebook.read(POLICIES, policy_id(context.institution))
            policy = complaint_policy(known, place, at or context.now)
            return ComplaintPolicyShown(
                id=policy.id, version=BigInt(policy.version), values=[_shown(v) for v in policy.values.values()]
            )

        return await in_thread(read)


def _shown(value: PolicyValue) -> PolicyValueShown:
    law = STATUTORY.get(value.key)
    return PolicyValueShown(
        key=value.key,
        unit=value.unit,
        amount=None if value.amount is None else BigInt(value.amount),
        words=value.words,
        rule=value.rule,
        assumed=value.assumed,
        note=value.note,
        statutory=None if law is None else f"{law.duration.amount} {law.duration.unit} ({law.source})",
    )


def _publishing(command: Command, asked: Asked) -> Work:
    """The figures as the domain has them, for the principal's own institution."""
    said: list[PolicyValueInput] = asked.given["values"]
    values = [PolicyValue(**{f.name: getattr(v, f.name) for f in dataclasses.fields(PolicyValue)}) for v in said]
    whole = dataclasses.replace(asked, given={**asked.given, "values": values})

    def decide(known: Policies | None) -> Event | Sequence[Event] | None:
        return command.call(known, whole, institution=asked.casebook.institution)

    return Work(decide)


def _unknown(id: UUID) -> Refused:
    raise AssertionError(f"publishing begins the stream {id} by itself")


COMMANDS: tuple[Command, ...] = (
    Command(
        "complaintPolicyPublish",
        "发布制度",
        POLICIES,
        publish,
        frozenset({Role.CS_CHIEF, Role.DEAN, Role.GM_OFFICE, Role.ADMIN}),
        _unknown,
        begins=True,
        prepare=_publishing,
        supplied=frozenset({"institution"}),
        typed={"values": list[PolicyValueInput]},
        stream=policy_id,
    ),
)

PolicyMutation = create_type("PolicyMutation", [mutation(command, decided, Answer) for command in COMMANDS])
