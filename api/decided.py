"""The receipt of a decision on anything but a complaint case, which has its own with the case in it."""

from typing import Annotated
from uuid import UUID

import strawberry

from api.refusal import Refusal
from api.scalars import BigInt
from domain.store.casebook import Receipt


@strawberry.type(description="已记录 – what a decision did, or had done when it was sent before.")
class Decided:
    """The receipt of a command."""

    id: UUID
    version: BigInt = strawberry.field(description="案卷版本 – the version of what was decided upon now.")
    position: BigInt = strawberry.field(description="机构内位置 – send it as consistentWith to read your own write.")
    topics: list[str] = strawberry.field(description="The events, in order; none when it was so already.")
    repeated: bool = strawberry.field(description="True when nothing new was stored: known already.")


Answer = Annotated[Decided | Refusal, strawberry.union("Answer", description="A receipt, or why not.")]


def decided(id: UUID, receipt: Receipt) -> Decided:
    """The receipt as GraphQL shows it."""
    return Decided(
        id=id,
        version=BigInt(receipt.version),
        position=BigInt(receipt.position),
        topics=[event.topic for event in receipt.events],
        repeated=receipt.repeated or not receipt.events,
    )
