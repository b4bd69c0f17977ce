"""The house a program works in: its database, migrated or not, its keys, and the local people who may act in it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import psycopg

from api.access.token import at_the_machine, convert_tokens, has_tokens, issue_token
from api.embedded import Embedded
from api.settings import Settings
from domain.institution import INSTITUTION, Institution, institution_id, open_institution
from domain.kernel import Event, Role, named
from domain.staff import STAFF, Staff, enrol
from domain.store.casebook import Casebook, House, conninfo_as
from domain.store.keys import master_key
from migrations.runner import Migration, migrate

Told = Callable[[str], None]


@dataclass(frozen=True)
class Premises:
    """A database that is there, as its owner and as the application."""

    settings: Settings
    owner: str
    app: str


@contextmanager
def premises(settings: Settings, tell: Told) -> Generator[Premises]:
    """The database of the settings: DATABASE_URL, or the embedded server for as long as the block lasts."""
    if settings.database_url is not None:
        yield Premises(settings, settings.database_owner_url or settings.database_url, settings.database_url)
        return
    with Embedded(settings.data, progress=lambda what, seconds: tell(f"{what} ({seconds:.0f} s)")) as server:
        yield Premises(settings, server.owner_conninfo, server.app_conninfo)


@contextmanager
def opened(where: Premises, *, migrating: Callable[[list[Migration]], None] | None = None) -> Generator[House]:
    """The store of these premises; with `migrating`, after the schema was brought up to date, and told what was done.

    Only an empty database is given a new master key: one that has people's keys needs the key they were wrapped with.
    """
    fresh = False
    if migrating is not None:
        applied = migrate(where.owner)
        fresh = any(migration.version == 1 for migration in applied)
        migrating(applied)
    key = master_key(where.settings.master_key_file, create=fresh)
    house = House(where.app, key, runner=where.settings.database_runner_url, pool_max=where.settings.connections_max)
    if where.settings.database_url is not None:
        for role, login in _logins(where.settings):
            psycopg.connect(conninfo_as(login, role)).close()  # says at once what is wrong; a pool would only wait
    with house:
        if migrating is not None:
            convert_tokens(house)
        yield house


def not_granted(settings: Settings) -> list[str]:
    """The statements an administrator is to run so that each login of the settings may take the role of its work."""
    grants: list[str] = []
    for role, login in _logins(settings):
        with suppress(psycopg.OperationalError), psycopg.connect(login) as connection:
            found = connection.execute(
                "SELECT quote_ident(session_user) FROM pg_roles WHERE rolname = %s"
                " AND NOT pg_has_role(session_user, oid, 'MEMBER')",
                (role,),
            ).fetchone()
            if found is not None:
                grants.append(f"GRANT {role} TO {found[0]};")
    return grants


def _logins(settings: Settings) -> list[tuple[str, str]]:
    """Each role of the house with the login that takes it; none for the embedded server, which makes its own."""
    url = settings.database_url
    if url is None:
        return []
    reader, runner = settings.database_reader_url or url, settings.database_runner_url or url
    return [("anjuan_app", url), ("anjuan_reader", reader), ("anjuan_runner", runner)]


def converted(where: Premises) -> int:
    """Tell the tokens an earlier version made to their holders' histories; how many there were."""
    # the owner is under row-level security like everybody else; a runner sees every institution
    runner = conninfo_as(where.settings.database_runner_url or where.app, "anjuan_runner")
    with psycopg.connect(runner) as connection:
        old = connection.execute(
            "SELECT EXISTS (SELECT FROM api_token WHERE label IS NOT NULL AND revoked_at IS NULL"
            " AND expires_at > clock_timestamp())"
        ).fetchone()
    if old is None or not old[0]:
        return 0
    with opened(where) as house:
        return convert_tokens(house)


def institutions(house: House) -> list[str]:
    """The codes of the institutions that are open here."""
    with house.everywhere.connection() as connection:
        rows = connection.execute(
            "SELECT institution FROM institution_position WHERE position > 0 ORDER BY 1"
        ).fetchall()
    return [code for (code,) in rows if house.casebook(code).read(INSTITUTION, institution_id(code)) is not None]


def open_here(
    house: House, *, code: str, name: str, group: str, zone: str, time_zone: str, calendar: str
) -> tuple[Casebook, bool]:
    """Open an institution with one person for every post; whether that was news. Raises Refused."""
    casebook = house.casebook(code)
    said = at_the_machine()

    def decide(known: Institution | None) -> Event | None:
        return open_institution(
            known, said, code=code, name=name, group=group, zone=zone, time_zone=time_zone, calendar=calendar
        )

    receipt = casebook.act(INSTITUTION, institution_id(code), decide, command_id=said.command_id)
    if receipt.events:
        for number, role in enumerate(Role, 1):
            _enrol(casebook, role, f"{code}-{number:03d}")
    return casebook, bool(receipt.events)


def staff_of(casebook: Casebook) -> Iterator[Staff]:
    """Everybody enrolled here who has not left, in order of enrolment."""
    for notification in casebook.recorder.select_notifications(None, 100_000, topics=["staff.enrolled"]):
        staff = casebook.read(STAFF, UUID(str(notification.originator_id)))
        if staff is not None and not staff.left:
            yield staff


def first_tokens(house: House, settings: Settings, code: str) -> list[tuple[Staff, str]]:
    """A bearer token for one person of each post, for an institution that has none yet; they are shown once."""
    if has_tokens(house, code):
        return []
    people = {role: person for person in reversed([*staff_of(house.casebook(code))]) for role in person.roles}
    chosen = {person.id: person for role in Role if (person := people.get(role)) is not None}
    return [(person, _token(house, settings, code, person)) for person in chosen.values()]


def _token(house: House, settings: Settings, code: str, person: Staff) -> str:
    return issue_token(house, code, person.id, f"local {person.number}", timedelta(days=settings.token_days))


def _enrol(casebook: Casebook, role: Role, number: str) -> None:
    said = at_the_machine()
    id = named(casebook.institution, "staff", number)

    def decide(known: Staff | None) -> Event | None:
        return enrol(known, said, id=id, name=f"本地用户 {role}", number=number, roles=[role], department="本地")

    casebook.act(STAFF, id, decide, command_id=said.command_id)
