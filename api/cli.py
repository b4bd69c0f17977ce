"""The command line: `anjuan up`, and everything an operator or an auditor does at a terminal."""

from __future__ import annotations

import os
import signal
import sys
from functools import partial
from threading import Event as Signal
from threading import Thread
from types import FrameType
from typing import Annotated, Any

import psycopg
import typer
from psycopg_pool import PoolTimeout
from pydantic import ValidationError
from rich.table import Table

from api.binaries import EmbeddedError
from api.cli_access import access
from api.cli_documents import documents
from api.cli_exchange import bring, take
from api.demo import demo
from api.exchange.export import ExportProblem
from api.exchange.mapping import MappingProblem
from api.exchange.rows import FileProblem
from api.logs import configure
from api.premises import (
    converted,
    first_tokens,
    institutions,
    not_granted,
    open_here,
    opened,
)
from api.replay import find_case, moment, replayed
from api.settings import Settings
from api.terminal import Institution, at_work, bar, err, in_house, only, out, stoppable
from domain.kernel import Refused
from domain.staff import Staff
from domain.store.casebook import House
from domain.store.keys import KeyProblem, master_key
from migrations.runner import check, migrate, pending
from migrations.script import Migration, MigrationError
from projections.parked import parked
from projections.rebuild import rebuild as rebuild_view
from projections.runner import catch_up, follow
from projections.tracking import lag
from projections.verify import verify as verify_view
from projections.view import View
from projections.views import VIEWS

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
app.add_typer(bring, name="import")
app.add_typer(take, name="export")
app.add_typer(documents, name="documents")
app.add_typer(access)

ViewName = Annotated[str | None, typer.Argument(help="A view, or nothing for all of them.")]
OURS = (EmbeddedError, MigrationError, KeyProblem, MappingProblem, FileProblem, ExportProblem, Refused)


def main() -> None:
    """Run a command; what goes wrong is said in one sentence with its remedy, and the exit code is 1."""
    try:
        app()
    except OURS as problem:
        _fail(str(problem))
    except ValidationError as problem:
        _fail("; ".join(_about(dict(error)) for error in problem.errors()))
    except (psycopg.OperationalError, PoolTimeout) as problem:
        if grants := not_granted(Settings()):
            _fail(f"A login may not take the role of its work. Have an administrator run: {' '.join(grants)}")
        _fail(f"The database cannot be reached: {problem}. Check DATABASE_URL, or unset it for the embedded server.")
    except psycopg.errors.InsufficientPrivilege as problem:
        _fail(f"{problem.diag.message_primary}. Set DATABASE_OWNER_URL to the login that migrates this database.")
    except psycopg.ProgrammingError as problem:
        if problem.sqlstate is not None:
            raise
        _fail("DATABASE_URL cannot be read; write it as postgresql://user:password@host:5432/database.")
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        err.print("Stopped. What was done stays done; run the command again to go on.")
        sys.exit(130)


def _about(error: dict[str, Any]) -> str:
    where = ".".join(map(str, error["loc"]))
    said = str(error["msg"]).removeprefix("Value error, ")
    return f"setting {where}: {said}" if where else f"settings: {said}"


def _fail(sentence: str) -> None:
    err.print(sentence, style="red", markup=False)
    sys.exit(1)


def _views(name: str | None) -> list[View[Any]]:
    if name is None:
        return list(VIEWS.values())
    if name not in VIEWS:
        raise Refused("view.unknown", f"There is no view {name}; there are {', '.join(sorted(VIEWS))}.")
    return [VIEWS[name]]


@app.command()
def up(
    demo: Annotated[bool, typer.Option(help="Fill an empty database with a small hospital group's months.")] = False,
    seed: Annotated[int, typer.Option(help="The same seed gives the same demonstration.")] = 1,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Where GraphQL is served; 0 for any free port.")
    ] = None,
) -> None:
    """Start everything: database, schema, views, GraphQL. Ctrl-C ends it."""
    with at_work() as where, opened(where, migrating=_told) as house:
        if demo:
            _demonstrate(house, seed)
        elif not institutions(house):
            open_here(
                house,
                code="AJ",
                name="本地机构",
                group="本地集团",
                zone="outside",
                time_zone="Asia/Shanghai",
                calendar="cn",
            )
        for code in institutions(house):
            _introduce(code, first_tokens(house, where.settings, code))
        stop, wake = Signal(), Signal()
        runner = Thread(target=follow, args=(house, VIEWS.values()), kwargs={"stop": stop, "wake": wake}, name="runner")
        runner.start()
        try:
            from api.serve import serve  # the edge takes a second to load, which no other command needs

            serve(house, where.settings, port, wake=wake.set, ready=_ready)
        finally:
            stop.set()
            wake.set()
            runner.join()
    out.print("Stopped.")


def _ready(url: str) -> None:
    out.print(f"Ready: {url}  (Ctrl-C ends it)")


def _demonstrate(house: House, seed: int) -> None:
    with bar("demonstration") as tell:
        report = demo(house, seed, progress=tell)
    catch_up(house, VIEWS.values())
    out.print(f"Demonstration: {report.cases} cases, {report.events} events (seed {seed}).")


def _told(applied: list[Migration]) -> None:
    for migration in applied:
        out.print(f"Applied {migration.file}")


def _introduce(code: str, people: list[tuple[Staff, str]]) -> None:
    if not people:
        out.print(f"{code}: its tokens were shown when it was opened; `anjuan token -i {code}` makes another.")
        return
    out.print(f"{code}: who may act here, with bearer tokens that are shown only now")
    for person, token in people:
        out.print(f"  {', '.join(sorted(person.roles)):<17} {token}  {person.name}", soft_wrap=True, markup=False)


@app.command("migrate")
def migrate_(
    pending_only: Annotated[bool, typer.Option("--pending", help="Only say what would be applied.")] = False,
) -> None:
    """Bring the database to the schema of this version."""
    with at_work() as where:
        if pending_only:
            for migration in pending(where.owner):
                out.print(f"Pending {migration.file}")
            return
        applied = migrate(where.owner)
        _told(applied)
        if told := converted(where):
            out.print(f"Tokens of an earlier version, now in their holders' histories: {told}")
        out.print("The schema is up to date.")


@app.command()
def run() -> None:
    """Keep the views up to date until Ctrl-C; several of these share the work."""
    with in_house() as house:
        stop = Signal()

        def end(_number: int, _frame: FrameType | None) -> None:
            stop.set()

        signal.signal(signal.SIGINT, end)
        signal.signal(signal.SIGTERM, end)
        configure(Settings().environment)
        out.print("Following. Ctrl-C ends it.")
        follow(house, VIEWS.values(), stop=stop)


@app.command("open")
def open_(
    code: Annotated[str, typer.Argument(help="Two to eight upper-case letters.")],
    name: Annotated[str, typer.Option(help="Its name.")],
    group: Annotated[str, typer.Option(help="The group it belongs to.")] = "本地集团",
    zone: Annotated[str, typer.Option(help="beijing or outside: which closing deadline holds.")] = "outside",
    time_zone: Annotated[str, typer.Option(help="IANA name of its time zone.")] = "Asia/Shanghai",
    calendar: Annotated[str, typer.Option(help="cn: China's working days; weekdays: Monday to Friday.")] = "cn",
) -> None:
    """Open an institution with a local person for every post."""
    with at_work() as where, opened(where, migrating=_told) as house:
        _, new = open_here(house, code=code, name=name, group=group, zone=zone, time_zone=time_zone, calendar=calendar)
        if not new:
            out.print(f"{code} is open already.")
        _introduce(code, first_tokens(house, where.settings, code))


@app.command("institutions")
def institutions_() -> None:
    """The institutions that are open here."""
    with in_house() as house:
        for code in institutions(house):
            out.print(code)


@app.command()
def status() -> None:
    """How far each view has read, and what is parked."""
    with in_house() as house:
        table = Table(box=None)
        for heading in ("institution", "view", "position", "of", "behind", "waiting", "parked", "runner"):
            table.add_column(heading, no_wrap=True)
        for line in lag(house, list(VIEWS.values())):
            waiting = "" if line.seconds_behind is None else f"{line.seconds_behind:.1f} s"
            table.add_row(
                line.institution, line.view, str(line.position), str(line.head), str(line.behind), waiting,
                str(line.parked), "alive" if line.alive else "none",
            )  # fmt: skip
        out.print(table)
        for key in parked(house):
            out.print(f"parked: {key}", markup=False)


@app.command()
def rebuild(
    view: ViewName = None,
    processes: Annotated[
        int | None, typer.Option(min=1, max=64, help="How many work; all cores for a log worth it, else one.")
    ] = None,
) -> None:
    """Fold a view again from its first event, beside the present one, and switch when it is done."""
    with at_work() as where, opened(where) as house, stoppable() as stop:
        check(where.owner)
        key = master_key(where.settings.master_key_file)
        for one in _views(view):
            hands = (processes or _worth(house)) - 1
            with bar(one.name) as tell:
                done = rebuild_view(
                    house,
                    one,
                    owner=where.owner,
                    progress=partial(tell, "folding"),
                    stop=stop,
                    hands=hands,
                    master_key=key,
                )
            if not done.switched:
                raise KeyboardInterrupt
            out.print(f"{one.name} is rebuilt: {done.events} events in {done.seconds:.1f} s.")


def _worth(house: House) -> int:
    """How many processes a rebuild is worth: starting one costs about what folding 100,000 events does."""
    events = sum(line.head for line in lag(house, [next(iter(VIEWS.values()))]))
    return max(1, min(os.cpu_count() or 1, events // 200_000))


@app.command()
def verify(
    view: ViewName = None,
    institution: Institution = None,
    sample: Annotated[int | None, typer.Option(min=1, help="Only about so many streams, chosen at random.")] = None,
) -> None:
    """Fold again what the views have read and compare every field; exit code 1 at the first difference."""
    with in_house() as house:
        if institution is not None:
            only(house, institution)
        found = [verify_view(house, one, institution, sample=sample) for one in _views(view)]
        for one in found:
            verdict = "as the log says" if one.ok else f"{one.differing} rows differ; first: {one.first}"
            out.print(f"{one.view}: {one.rows} rows, {one.events} events: {verdict}", markup=False)
        if not all(one.ok for one in found):
            sys.exit(1)


@app.command()
def replay(
    case: Annotated[str, typer.Argument(help="The case's number, id, or name in the system it came from.")],
    at: Annotated[str | None, typer.Option(help="A day or a moment: how things stood then.")] = None,
    recorded: Annotated[str | None, typer.Option(help="A day or a moment: what was known then.")] = None,
    version: Annotated[int | None, typer.Option(min=1, help="After so many events of the case.")] = None,
    blame: Annotated[bool, typer.Option(help="Show which event set each field.")] = False,
    institution: Institution = None,
) -> None:
    """One case as it was on any day, with its clocks and its history until then."""
    with in_house() as house:
        if institution is not None:
            only(house, institution)
        found = find_case(house, case, institution)
        content = replayed(
            house,
            found,
            occurred_at=None if at is None else moment(at, found.zone),
            recorded_at=None if recorded is None else moment(recorded, found.zone),
            version=version,
            who=blame,
        )
        if content is None:
            raise Refused("complaint.not_begun", f"{case} had not begun then; ask for a later moment.")
        out.print(content)


if __name__ == "__main__":
    main()
