"""`anjuan documents …`: manifests of trusted documents, made and checked without a database.

The edge is loaded by the commands that need it, not by every `anjuan` there is: that would double the time it takes to
begin.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from api.settings import Settings
from api.terminal import out

if TYPE_CHECKING:
    from graphql import GraphQLSchema

    from api.limits import Gate

documents = typer.Typer(no_args_is_help=True, help="Trusted documents: what clients may ask for by id.")


@documents.command()
def check(
    manifest: Annotated[Path, typer.Argument(help="The manifest, JSON: ids and the texts of their documents.")],
) -> None:
    """Check a manifest as the server does when it starts: ids, syntax, limits, schema. Every problem is told."""
    from api.edge.documents import trusted

    schema, gate = _schema()
    found = trusted(manifest, schema, gate)
    out.print(f"{len(found)} document(s), all right. Serve them with ANJUAN_DOCUMENTS={manifest}", soft_wrap=True)


@documents.command("add")
def add_(
    files: Annotated[list[Path], typer.Argument(help="Files with one document each, UTF-8.")],
    to: Annotated[Path, typer.Option(help="The manifest to add them to; it is made if there is none.")],
) -> None:
    """Add documents to a manifest and print their ids. All or nothing; adding one again changes nothing."""
    from api.edge.documents import Problem, add, refuse

    if wrong := [Problem(str(file), "is named twice") for file in {f for f in files if files.count(f) > 1}]:
        refuse(to, wrong)
    schema, gate = _schema()
    for file, id, new in add(files, to, schema, gate):
        out.print(f"{id}  {file}{'' if new else '  (was there already)'}", soft_wrap=True, markup=False)


def _schema() -> tuple[GraphQLSchema, Gate]:
    from api.limits import Gate
    from api.schema import build

    schema = build(Settings())._schema
    return schema, Gate(schema, Settings())
