"""`anjuan import …` and `anjuan export …`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from api.exchange.export import export_cases, export_history
from api.exchange.history import replay_all
from api.exchange.importer import ImportReport, import_complaints
from api.exchange.mapping import mapping_named
from api.exchange.totals import Totals, check_totals
from api.premises import opened
from api.terminal import Institution, at_work, bar, in_house, only, out, stoppable
from domain.staff import FOUNDER
from migrations.runner import check
from projections.runner import catch_up
from projections.views import VIEWS

bring = typer.Typer(no_args_is_help=True, help="Take over what another system recorded.")
take = typer.Typer(no_args_is_help=True, help="Write histories and cases to a file.")


@bring.command("complaints")
def import_(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="The export, CSV, may be gzipped.")],
    mapping: Annotated[
        str | None, typer.Option(help="A mapping's name or its TOML file; by default the file's name.")
    ] = None,
    institution: Institution = None,
) -> None:
    """Take cases over from another system's export, by a declared mapping. Running it again adds nothing."""
    declared = mapping_named(mapping or file.name.split(".")[0])
    with at_work() as where:
        check(where.owner)
        with opened(where) as house, stoppable() as stop, bar(declared.name) as tell:
            casebook = house.casebook(only(house, institution))
            report = import_complaints(
                casebook,
                declared,
                file,
                FOUNDER,
                quarantine=where.settings.data / "quarantine",
                progress=tell,
                stop=stop.is_set,
            )
            catch_up(house, VIEWS.values(), casebook.institution)
            totals = check_totals(casebook, declared, file)
            replay = replay_all(casebook)
        _report(report, totals)
        out.print(f"Replayed {replay.cases} cases, {replay.events} events; {len(replay.failures)} failed.")
        for id, failure in replay.failures[:10]:
            out.print(f"  {id}: {failure}", markup=False)
    if report.stopped:
        raise KeyboardInterrupt
    if replay.failures or not totals.agree:
        sys.exit(1)


def _report(report: ImportReport, totals: Totals) -> None:
    table = Table(title=f"{report.file.name} by mapping {report.mapping}", title_justify="left")
    for heading in ("", "in the file", "stored", "new", "known before", "refused"):
        table.add_column(heading, justify="right" if heading else "left")
    cases, rows = report.new_cases, totals.rows_refused
    table.add_row("cases", str(totals.cases), str(totals.cases_stored), str(cases), str(report.known_cases), "")
    table.add_row("rows", str(totals.rows), str(totals.rows_stored), "", "", str(rows))
    table.add_row("ended", str(totals.ended), str(totals.ended_stored), "", "", "")
    table.add_row("events of the cases", "", str(totals.events), "", "", "")
    table.add_row("… and their numbers", "", "", str(report.events), str(report.known_events), "")
    out.print(table)
    out.print("The histories agree with the file." if totals.agree else "The histories do NOT agree with the file.")
    for reason, count in sorted(report.quarantined.items()):
        out.print(f"Quarantined {count}: {reason}")
    if report.quarantine_file is not None:
        out.print(f"The quarantined lines are in {report.quarantine_file}")


@take.command("history")
def export_history_(
    file: Annotated[Path, typer.Argument(help="Where to write JSON Lines, one event a line.")],
    institution: Institution = None,
    personal: Annotated[bool, typer.Option(help="Include personal fields in the clear.")] = False,
) -> None:
    """Every event of an institution, in order."""
    with in_house() as house, bar("events") as tell:
        casebook = house.casebook(only(house, institution))
        count = export_history(casebook, file, personal=personal, progress=tell)
    out.print(f"Wrote {count} events to {file}")


@take.command("cases")
def export_cases_(
    file: Annotated[Path, typer.Argument(help="Where to write CSV, one case a line.")],
    institution: Institution = None,
    personal: Annotated[bool, typer.Option(help="Include personal fields in the clear.")] = False,
) -> None:
    """One line for each complaint case of an institution, as the case list shows it."""
    with in_house() as house, bar("cases") as tell:
        casebook = house.casebook(only(house, institution))
        catch_up(house, VIEWS.values(), casebook.institution)
        count = export_cases(casebook, file, personal=personal, progress=tell)
    out.print(f"Wrote {count} cases to {file}")
