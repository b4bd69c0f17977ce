"""What people and programs come in with, over GraphQL: tokens, and links to identities elsewhere."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta
from functools import partial
from typing import Annotated, Any
from uuid import UUID

import strawberry
from strawberry.tools import create_type, merge_types

from api.access.identity import claim, release
from api.access.roles import EVERYONE, must_be_allowed, must_be_in_scope
from api.access.token import Secret, locate, new_secret, shown
from api.command import Asked, Command, Work, carry_out, mutation, only
from api.context import Info, in_thread
from api.decided import Answer, decided
from api.refusal import Refusal, refusal
from api.row import closed_set
from api.scalars import BigInt
from api.staff import unknown
from domain.credential import Scope
from domain.kernel import Event, Refused, Role
from domain.staff import STAFF, Staff
from domain.store.casebook import Receipt

closed_set(Scope)
OVERSEERS_OF_TOKENS = frozenset({Role.ADMIN, Role.AUDITOR})
KEEPERS_OF_TOKENS = frozenset({Role.ADMIN})

ISSUE = Command("staffIssueToken", "签发令牌", STAFF, Staff.issue_token, EVERYONE, unknown)
REVOKE = Command("staffRevokeToken", "撤销令牌", STAFF, Staff.revoke_token, EVERYONE, unknown)
LINK = Command("staffLinkIdentity", "关联登录身份", STAFF, Staff.link_identity, KEEPERS_OF_TOKENS, unknown)
UNLINK = Command("staffUnlinkIdentity", "解除登录身份", STAFF, Staff.unlink_identity, KEEPERS_OF_TOKENS, unknown)

COMMANDS: tuple[Command, ...] = (ISSUE, REVOKE, LINK, UNLINK)
"""Everybody may issue tokens for themselves and revoke their own; another's need an administrator, says the domain."""

CommandId = Annotated[
    UUID, strawberry.argument(description="指令编号 – made by you; the same command sent again gets its first answer.")
]
StaffMember = Annotated[UUID, strawberry.argument(description="人员 – the staff member.")]


@strawberry.type(description="令牌 – what is known of a token: everything but the token.")
class StaffToken:
    """One token of a person."""

    id: str = strawberry.field(description="令牌编号 – names it; opens nothing.")
    label: str = strawberry.field(description="用途说明")
    scopes: list[Scope]
    session: bool = strawberry.field(description="Whether its holder signed in with a password for it.")
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None


@strawberry.type(description="已签发 – a new token. Keep it now: it is shown this once and stored nowhere.")
class TokenIssued:
    """The receipt of a token."""

    id: UUID = strawberry.field(description="Whose token it is.")
    token: str | None = strawberry.field(description="令牌 – null when the command was sent before.")
    token_id: str = strawberry.field(description="令牌编号 – to name it by, and to revoke it.")
    expires_at: datetime
    version: BigInt = strawberry.field(description="The version of the staff member's history now.")
    position: BigInt = strawberry.field(description="机构内位置 – send it as consistentWith to read your own write.")
    repeated: bool = strawberry.field(description="True when nothing new was stored: known already.")


TokenAnswer = Annotated[TokenIssued | Refusal, strawberry.union("TokenAnswer", description="A token, or why not.")]


@strawberry.type
class CredentialQuery:
    """Questions about what people come in with."""

    @strawberry.field(
        description="令牌清单 – a person's tokens, the newest first: your own; anybody's for administrator and auditor."
    )
    async def staff_tokens(self, info: Info, id: StaffMember | None = None) -> list[StaffToken]:
        """Tokens that expired are forgotten when the next is issued."""
        context = info.context
        context.may_ask("staffTokens")
        asked_for = id or context.principal.staff_id
        if asked_for != context.principal.staff_id:
            must_be_allowed(context.principal, OVERSEERS_OF_TOKENS, "the tokens of others")
        staff: Staff | None = await in_thread(lambda: context.casebook.read(only(STAFF, unknown(asked_for)), asked_for))
        if staff is None:
            raise unknown(asked_for)
        known = [shown(asked_for, token) for token in staff.tokens.values()]
        known.sort(key=lambda token: (token.created_at, token.id), reverse=True)
        return [
            StaffToken(
                id=token.id,
                label=token.label,
                scopes=sorted(token.scopes),
                session=token.session,
                created_at=token.created_at,
                expires_at=token.expires_at,
                revoked_at=token.revoked_at,
            )
            for token in known
        ]


@strawberry.type
class CredentialMutation:
    """Decisions whose answers say more than that they were made, or that another table must know of first."""

    @strawberry.field(
        description="签发令牌 – give yourself, or as an administrator anybody, a token for a program. It is shown once."
    )
    async def staff_issue_token(
        self,
        info: Info,
        command_id: CommandId,
        label: Annotated[str, strawberry.argument(description="用途说明 – what program it is for.")],
        scopes: Annotated[list[Scope], strawberry.argument(description="令牌用途 – no more than it needs.")],
        id: StaffMember | None = None,
        days: Annotated[int | None, strawberry.argument(description="有效天数 – how long it is valid.")] = None,
    ) -> TokenAnswer:
        """A token no stronger than the one this is asked with, unless an administrator asks."""
        principal, settings = info.context.principal, info.context.reach.settings
        if Role.ADMIN not in principal.roles and not principal.scopes.issuperset(scopes):
            sentence = "Your own token is not for all of these; ask for less, or ask the administrator."
            return refusal(Refused("access.scope", sentence, field="scopes"))
        made = new_secret()
        validity = timedelta(days=min(max(settings.token_days if days is None else days, 0), 100_000))
        command = dataclasses.replace(
            ISSUE, prepare=partial(_with_secret, made, validity, timedelta(days=settings.token_days_max))
        )
        whose = id or principal.staff_id
        arguments = {"command_id": command_id, "id": whose, "label": label, "scopes": scopes, "occurred_at": None}
        said = await carry_out(info.context, command, _receipt, arguments)
        if isinstance(said, Refusal):
            return said
        if not said.repeated:
            await in_thread(partial(locate, info.context.reach.house, principal.institution, whose, said.events))
        return _issued(whose, said, made)

    @strawberry.field(description="关联登录身份 – take whoever an OpenID issuer calls so for this person.")
    async def staff_link_identity(
        self,
        info: Info,
        command_id: CommandId,
        id: StaffMember,
        issuer: Annotated[str, strawberry.argument(description="签发方 – as its tokens say it (`iss`).")],
        subject: Annotated[str, strawberry.argument(description="用户 – what the issuer calls the person.")],
    ) -> Answer:
        """An administrator says who is who; nothing is guessed from names or addresses."""
        context = info.context
        place = context.reach.house, context.institution, id, issuer, subject
        try:
            must_be_in_scope(context.principal, Scope.DECIDE)
            must_be_allowed(context.principal, LINK.allowed, LINK.name)
            fresh: bool = await in_thread(partial(claim, *place))
        except Refused as refused:
            return refusal(refused)
        said = await carry_out(context, LINK, decided, _identity(command_id, id, issuer, subject))
        if isinstance(said, Refusal) and fresh:
            await in_thread(partial(release, *place))
        return said

    @strawberry.field(description="解除登录身份 – no longer take whoever an OpenID issuer calls so for this person.")
    async def staff_unlink_identity(
        self,
        info: Info,
        command_id: CommandId,
        id: StaffMember,
        issuer: Annotated[str, strawberry.argument(description="签发方 – as its tokens say it (`iss`).")],
        subject: Annotated[str, strawberry.argument(description="用户 – what the issuer calls the person.")],
    ) -> Answer:
        """Their tokens of that issuer open nothing from here on."""
        context = info.context
        said = await carry_out(context, UNLINK, _receipt, _identity(command_id, id, issuer, subject))
        if isinstance(said, Refusal):
            return said
        if said.events and not said.repeated:
            place = context.reach.house, context.institution, id, issuer, subject
            await in_thread(partial(release, *place))
        return decided(id, said)


RevokeMutation = create_type("RevokeMutation", [mutation(REVOKE, decided, Answer)])
CredentialMutations = merge_types("CredentialMutations", (CredentialMutation, RevokeMutation))


def _with_secret(made: Secret, valid_for: timedelta, valid_max: timedelta, command: Command, asked: Asked) -> Work:
    def decide(staff: Staff) -> Event:
        return command.call(
            staff, asked, token_id=made.id, sha256=made.sha256, valid_for=valid_for, valid_max=valid_max
        )

    return Work(decide)


def _identity(command_id: UUID, id: UUID, issuer: str, subject: str) -> dict[str, Any]:
    return {"command_id": command_id, "id": id, "issuer": issuer, "subject": subject, "occurred_at": None}


def _receipt(_: UUID, receipt: Receipt) -> Receipt:
    return receipt


def _issued(whose: UUID, receipt: Receipt, made: Secret) -> TokenIssued:
    event: Any = receipt.events[0]
    return TokenIssued(
        id=whose,
        token=made.token if event.sha256 == made.sha256 and not receipt.repeated else None,
        token_id=event.token_id,
        expires_at=event.expires_at,
        version=BigInt(receipt.version),
        position=BigInt(receipt.position),
        repeated=receipt.repeated,
    )


__all__ = ["COMMANDS", "CredentialMutations", "CredentialQuery"]
