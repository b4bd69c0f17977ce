"""Nodes (Relay): every object that is one of its kind can be asked for again by its id.

A type of a view's rows is declared a node by `@node_of`, any other by `declare`. Whoever may not ask the ordinary
questions about a type may not have its nodes either, whether there is such a node or not. Nodes asked for at
once are loaded together: one statement for each view.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import strawberry

from api.asof import Bounds, Then
from api.context import Context, Info
from api.identity import NODES_MAX, Identity, Named, named, of_view
from domain.kernel import Refused
from projections.question import ask_async, keyed
from projections.view import Key, View

T = TypeVar("T", bound=type[Any])


@strawberry.interface(description="节点 – an object that can be asked for again by its id.")
class Node:
    """Relay's node."""

    @strawberry.field(description="全局标识 – opaque; ask `node` with it to have the same object again.")
    def id(self) -> strawberry.ID:
        """The id of this very object, at the moment it is shown of."""
        return strawberry.ID(_KINDS[type(self)].id_of(self))


@dataclass(frozen=True)
class Kind:
    """How the objects of one type are named and found again.

    `asks` are the questions that show such objects: one of them must be allowed. `load` gives for each name its object
    or None, in order.
    """

    identity: Identity
    asks: Sequence[str]
    id_of: Callable[[Any], str]
    load: Callable[[Context, list[Named]], Awaitable[list[Any]]]
    chooses: bool = False
    """Whether some of those there are stay hidden from somebody who may ask for others."""


_KINDS: dict[type[Any], Kind] = {}
_BY_TAG: dict[str, Kind] = {}
_IDENTITIES: dict[str, Identity] = {}
NODES_OF_VIEWS: dict[str, View[Any]] = {}
"""The view whose rows a type shows, by the type's name in the schema."""
_SHOWN: dict[str, type[Any]] = {}


def declare(type_: type[Any], kind: Kind) -> None:
    """Make a type a node."""
    assert kind.identity.tag not in _BY_TAG, f"there are two kinds of {kind.identity.tag}"
    _KINDS[type_] = _BY_TAG[kind.identity.tag] = kind
    _IDENTITIES[kind.identity.tag] = kind.identity


def node_of(
    view: View[Any],
    *asks: str,
    sees: Callable[[Context, Any], bool] | None = None,
    as_it_was: Callable[[Context, Key, Bounds], Awaitable[Any]] | None = None,
) -> Callable[[T], T]:
    """Declare a type of a view's rows a node.

    `asks` are the questions that show such rows; `sees` says whether somebody may see this one, where not all may see
    all. Rows that are also shown as they were have a field `then`, and `as_it_was` finds one again.
    """
    identity = of_view(view, dated=as_it_was is not None)

    def id_of(row: Any) -> str:
        then: Then | None = getattr(row, "then", None)
        key = tuple(getattr(row, name) for name in view.key)
        return identity.write(key, None if then is None or then.latest else then.bounds)

    async def load(context: Context, wanted: list[Named]) -> list[Any]:
        found: dict[Named, Any] = {}
        keys = [one.key for one in wanted if one.bound is None]
        if keys:
            question = keyed(view, context.institution, keys).made_as(_SHOWN[view.name])
            async with context.reading() as database:
                for row in await ask_async(database, question):
                    found[Named(view.name, tuple(getattr(row, name) for name in view.key))] = row
        for one in wanted:
            if one.bound is not None and as_it_was is not None:
                name, bound = one.bound
                found[one] = await _or_refusal(as_it_was(context, one.key, {name: bound}))
        return [
            row if sees is None or row is None or isinstance(row, Refused) or sees(context, row) else None
            for row in map(found.get, wanted)
        ]

    def decorate(cls: T) -> T:
        declare(cls, Kind(identity, asks, id_of, load, chooses=sees is not None))
        NODES_OF_VIEWS[cls.__name__] = view
        _SHOWN[view.name] = cls
        return cls

    return decorate


def own(
    identity: Identity,
    asks: str,
    key_of: Callable[[Any], Any],
    key: Callable[[Context], Any],
    find: Callable[[Context], Awaitable[Any]],
) -> Kind:
    """A kind of which everybody has one: `key` says whose, and nobody finds another's."""

    async def load(context: Context, wanted: list[Named]) -> list[Any]:
        mine = await find(context) if any(one.key == (key(context),) for one in wanted) else None
        return [mine if one.key == (key(context),) else None for one in wanted]

    return Kind(identity, (asks,), lambda object: identity.write((key_of(object),)), load)


async def _or_refusal(found: Awaitable[Any]) -> Any:
    try:
        return await found
    except Refused as refused:
        return refused


async def loaded(context: Context, one: Named) -> Any:
    """The object of this name, or None; all that are asked for at once are loaded together."""
    kind = _BY_TAG[one.tag]

    async def load(wanted: list[Named]) -> list[Any]:
        return await kind.load(context, wanted)

    return await context.loader(("node", one.tag), load).load(one)


def chooses(view: View[Any]) -> bool:
    """Whether some of a view's rows stay hidden from somebody who may ask for others."""
    return _BY_TAG[view.name].chooses


def asked_for(context: Context, id: str, field: str) -> Named:
    """What an id names. Refused when it is none, or names what the principal may not ask for."""
    one = named(id, _IDENTITIES, field)
    asks = _BY_TAG[one.tag].asks
    if not any(may_see(context, question) for question in asks):
        context.may_ask(asks[0])
    return one


async def _found(context: Context, id: str, field: str) -> Any:
    return await loaded(context, asked_for(context, id, field))


def may_see(context: Context, question: str) -> bool:
    """Whether the principal may ask this question."""
    try:
        context.may_ask(question)
    except Refused:
        return False
    return True


@strawberry.type
class NodeQuery:
    """Anything there is, by its id."""

    @strawberry.field(description="按标识查找 – the object with this id; null when there is none.")
    async def node(
        self, info: Info, id: Annotated[strawberry.ID, strawberry.argument(description="全局标识")]
    ) -> Node | None:
        """One node."""
        info.context.may_ask("node")
        return await _found(info.context, id, "id")

    @strawberry.field(
        description=f"按标识批量查找 – those with these ids, {NODES_MAX} at most, in order; null where there is none."
    )
    async def nodes(
        self, info: Info, ids: Annotated[list[strawberry.ID], strawberry.argument(description="全局标识")]
    ) -> list[Node | None]:
        """Several nodes. What is wrong with one id is an error at its place, and the others are answered."""
        context = info.context
        context.may_ask("nodes")
        if len(ids) > NODES_MAX:
            raise Refused("node.too_many", f"Ask for at most {NODES_MAX} ids at once; split them up.", field="ids")
        found = [_found(context, id, "ids") for id in ids]
        return await asyncio.gather(*found, return_exceptions=True)  # pyright: ignore[reportReturnType]  GraphQL shows each exception in its place
