"""Who may come in, said at a terminal: tokens, passwords, identities elsewhere; all of it in people's histories."""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import Annotated

import typer
from rich.table import Table

from api.access.identity import link as link_identity
from api.access.identity import unlink as unlink_identity
from api.access.local_user import set_password
from api.access.token import at_the_machine, issue_token, revoke_token
from api.access.token import tokens as tokens_of
from api.premises import staff_of
from api.settings import Settings
from api.terminal import Institution, in_house, only, out
from domain.credential import Scope
from domain.kernel import Refused, Role
from domain.staff import Staff
from domain.store.casebook import House

access = typer.Typer()

Number = Annotated[str, typer.Option("--number", "-n", help="The person's staff number.")]
Issuer = Annotated[str, typer.Option(help="The OpenID issuer, as its tokens say it.")]
Subject = Annotated[str, typer.Option(help="What the issuer calls the person.")]


@access.command()
def token(
    institution: Institution = None,
    role: Annotated[Role, typer.Option(help="The post to act in, if no number is said.")] = Role.CS_DIRECTOR,
    number: Annotated[str | None, typer.Option("--number", "-n", help="The person's staff number.")] = None,
    label: Annotated[str | None, typer.Option(help="What program it is for.")] = None,
    days: Annotated[int | None, typer.Option(min=1, help="How long it is valid.")] = None,
    scope: Annotated[
        list[Scope] | None, typer.Option(help="What it may do; may be said again. All, if left out.")
    ] = None,
) -> None:
    """Another bearer token for a person, or for somebody in a post; it is shown only now."""
    settings = Settings()
    wanted = settings.token_days if days is None else days
    if wanted > settings.token_days_max:
        raise Refused("token.validity", f"A token is valid for {settings.token_days_max} days at most.", field="days")
    with in_house() as house:
        code = only(house, institution)
        person = _in_post(house, code, role) if number is None else _numbered(house, code, number)
        made = issue_token(
            house,
            code,
            person.id,
            label or f"local {person.number}",
            timedelta(days=wanted),
            scopes=frozenset(scope or Scope),
        )
        out.print(f"{person.name} ({', '.join(sorted(person.roles))}): {made}", soft_wrap=True, markup=False)


@access.command()
def tokens(institution: Institution = None) -> None:
    """The tokens of an institution: whose, what for, until when. Never the tokens themselves."""
    with in_house() as house:
        code = only(house, institution)
        numbers = {person.id: person.number for person in staff_of(house.casebook(code))}
        table = Table(box=None)
        for heading in ("token", "number", "label", "scopes", "expires (UTC)", "revoked (UTC)"):
            # whoever revokes a token needs its id whole; what it is called and for may take more lines
            table.add_column(heading, no_wrap=heading in {"token", "number"}, overflow="fold")
        for one in tokens_of(house, code):
            revoked = "" if one.revoked_at is None else f"{one.revoked_at:%Y-%m-%d %H:%M}"
            scopes = ", ".join(sorted(one.scopes))
            number = numbers.get(one.staff_id, "left")
            table.add_row(one.id, number, one.label, scopes, f"{one.expires_at:%Y-%m-%d %H:%M}", revoked)
        out.print(table)


@access.command()
def revoke(
    token: Annotated[
        str, typer.Argument(help="The token's id, or enough of its beginning; `anjuan tokens` lists them.")
    ],
    institution: Institution = None,
    reason: Annotated[str, typer.Option(help="Why.")] = "",
) -> None:
    """End a token at once."""
    with in_house() as house:
        ended = revoke_token(house, only(house, institution), token, reason=reason)
        out.print("Revoked; it opens nothing from now on." if ended else "There is no such token that was still valid.")
        if not ended:
            sys.exit(1)


@access.command()
def password(
    number: Number,
    institution: Institution = None,
    stdin: Annotated[bool, typer.Option("--stdin", help="Read it from the first line of the input.")] = False,
) -> None:
    """Set a person's password; their sessions end. It is asked for, never an argument, which others could see."""
    with in_house() as house:
        code = only(house, institution)
        person = _numbered(house, code, number)
        said = sys.stdin.readline().rstrip("\r\n") if stdin else _asked(person)
        set_password(house, code, person.id, said, at_the_machine())
        out.print(f"{person.name} signs in at {code} as {person.number}.", markup=False)


@access.command()
def link(number: Number, issuer: Issuer, subject: Subject, institution: Institution = None) -> None:
    """Take whoever an OpenID issuer calls so for this person."""
    with in_house() as house:
        code = only(house, institution)
        person = _numbered(house, code, number)
        new = link_identity(house, code, person.id, issuer, subject, at_the_machine())
        out.print("Linked." if new else "That was so already.")


@access.command()
def unlink(number: Number, issuer: Issuer, subject: Subject, institution: Institution = None) -> None:
    """No longer take whoever an OpenID issuer calls so for this person."""
    with in_house() as house:
        code = only(house, institution)
        person = _numbered(house, code, number)
        ended = unlink_identity(house, code, person.id, issuer, subject, at_the_machine())
        out.print("Unlinked." if ended else "They were not linked.")


def _asked(person: Staff) -> str:
    return str(typer.prompt(f"New password of {person.number}", hide_input=True, confirmation_prompt=True, err=True))


def _in_post(house: House, code: str, role: Role) -> Staff:
    for person in staff_of(house.casebook(code)):
        if role in person.roles:
            return person
    raise Refused("staff.nobody", f"Nobody at {code} holds the post {role}; `anjuan institutions` shows the codes.")


def _numbered(house: House, code: str, number: str) -> Staff:
    found = [person for person in staff_of(house.casebook(code)) if person.number == number]
    if not found:
        raise Refused("staff.unknown", f"Nobody at {code} has the number {number}; enrol them first.", field="number")
    if len(found) > 1:
        raise Refused("staff.twice", f"{len(found)} people at {code} have the number {number}.", field="number")
    return found[0]
