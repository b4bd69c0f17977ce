"""Trusted documents: those whose text we know in advance, asked for by the SHA-256 of their text.

    {"documentId": "sha256:7dba…", "variables": {…}}     # the appendix "Persisted Documents" of GraphQL over HTTP

A manifest is the JSON that build tools of clients write: id -> text, as graphql-codegen (`persistedDocuments`, with
`hashAlgorithm: "sha256"`) and relay-compiler (`persistConfig`, with `algorithm: "SHA256"`) do; ids may lack `sha256:`.
Everything in it is checked when the process starts, so what is wrong is found by whoever deploys, not by who asks.

Documents are parsed and validated then; a plan depends on the posts of whoever asks (masks are compiled in), so each is
planned when the first person with certain posts asks, and kept.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import msgspec
import orjson
from graphql import GraphQLError, GraphQLSchema, OperationDefinitionNode, parse, validate

from api.access.roles import Principal
from api.edge.asked import Asked, Unacceptable
from api.limits import Gate
from domain.credential import Scope
from domain.kernel import Refused

PREFIX = "sha256:"
_ID = re.compile(r"sha256:[0-9a-f]{64}")
_ID_IN_BODY = re.compile(rb"sha256:[0-9a-f]{64}")
_OTHER_HASHES = {32: "MD5", 40: "SHA-1", 96: "SHA-384", 128: "SHA-512"}
SHOWN_MAX = 50
"""So many problems of a manifest are listed; the rest is counted."""


def document_id(text: str) -> str:
    """The id of a document: of its text as it is, so that one more space makes another document."""
    return PREFIX + hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Problem:
    """What is wrong with one entry of a manifest."""

    id: str
    reason: str


class Documents:
    """The documents a request may ask for, and who may send others.

    With a manifest, only tokens with the scope `own_documents` may. Without one everybody may: there is nothing to hold
    a document against, and refusing all of them would leave an edge that answers nothing.
    """

    def __init__(self, texts: Mapping[str, str] | None = None) -> None:
        self._texts = texts
        self._commands = frozenset(id for id, text in (texts or {}).items() if "mutation" in text)

    @property
    def trusted_only(self) -> bool:
        """Whether other documents need the scope."""
        return self._texts is not None

    def __len__(self) -> int:
        return len(self._texts or {})

    def may_command(self, body: bytes) -> bool:
        """Whether a request's body may be a command, by its text or by the trusted document it names; a guess."""
        named = _ID_IN_BODY.search(body)
        return b"mutation" in body or (named is not None and named[0].decode() in self._commands)

    def chosen(self, asked: Asked, who: Principal) -> Asked:
        """What is asked, its document by text; raises Unacceptable when there is none, or they may not send it.

        A text that is a trusted document's is one, however it was sent.
        """
        if asked.document_id is None:
            if not asked.query:
                raise Unacceptable(400, "request.body", "Say which document: its text as query, or its documentId.")
            if self._texts is None or Scope.OWN_DOCUMENTS in who.scopes or document_id(asked.query) in self._texts:
                return asked
            raise Unacceptable(
                403,
                "document.untrusted",
                "This token may use trusted documents only; send the documentId of one, or have yours added.",
            )
        if asked.query:
            raise Unacceptable(400, "document.both", "Send query or documentId, not both.")
        if not _ID.fullmatch(asked.document_id):
            raise Unacceptable(400, "document.id", "A documentId is sha256: and 64 hexadecimal digits in lower case.")
        text = None if self._texts is None else self._texts.get(asked.document_id)
        if text is None:
            raise Unacceptable(404, "document.unknown", "No trusted document has this id; check it, or have it added.")
        return msgspec.structs.replace(asked, query=text)


def trusted(manifest: Path, schema: GraphQLSchema, gate: Gate) -> Documents:
    """The documents of a manifest; raises Refused with a line for each problem, unless all are right."""
    texts, problems = checked(manifest, schema, gate)
    refuse(manifest, problems)
    return Documents(texts)


def refuse(file: Path, problems: list[Problem]) -> None:
    """Raise Refused if there are problems, a line for each."""
    if not problems:
        return
    lines = [f"{file}: {problem.id}: {problem.reason}" for problem in problems[:SHOWN_MAX]]
    if len(problems) > SHOWN_MAX:
        lines.append(f"… and {len(problems) - SHOWN_MAX} more")
    raise Refused("document.manifest", "The trusted documents are not right:\n" + "\n".join(lines))


def checked(manifest: Path, schema: GraphQLSchema, gate: Gate) -> tuple[dict[str, str], list[Problem]]:
    """The documents of a manifest by their ids, and what is wrong with it. Raises Refused when it is no manifest."""
    texts: dict[str, str] = {}
    problems: list[Problem] = []
    for key, text in _entries(manifest).items():
        wrong = _misnamed(key, text) or problem_of(str(text), schema, gate)
        if wrong is not None:
            problems.append(Problem(key, wrong))
        else:
            texts[document_id(str(text))] = str(text)
    return texts, problems


def _entries(manifest: Path) -> dict[str, object]:
    try:
        read = orjson.loads(manifest.read_bytes())
    except OSError as problem:
        raise Refused("document.manifest", f"{manifest} cannot be read ({problem.strerror}).") from None
    except orjson.JSONDecodeError as problem:
        raise Refused("document.manifest", f"{manifest} is not JSON: {problem}.") from None
    if not isinstance(read, dict):
        raise Refused("document.manifest", f"{manifest} is no manifest; write a JSON object of ids and documents.")
    return cast("dict[str, object]", read)


def _misnamed(key: str, text: object) -> str | None:
    if not isinstance(text, str):
        return "is no text; an entry is an id and the text of a document"
    if _ID.fullmatch(id := key if ":" in key else PREFIX + key) is None:
        other = _OTHER_HASHES.get(len(key))
        said = f"looks like {other}; have your build tool use SHA-256" if other else "is not sha256: and 64 hex digits"
        return f"the id {said}"
    if id != document_id(text):
        return f"is not the SHA-256 of its document, which is {document_id(text)}; build the manifest anew"
    return None


def problem_of(text: str, schema: GraphQLSchema, gate: Gate) -> str | None:
    """Why a document cannot be asked for by anybody: its syntax, a limit it is over, or what the schema lacks."""
    try:
        gate.weigh(text)
        document = parse(text)
    except Refused as refused:
        return f"{refused.code}: {refused.sentence}"
    except GraphQLError as problem:
        return f"document.syntax: {_placed(problem)}"
    if not any(isinstance(one, OperationDefinitionNode) for one in document.definitions):
        return "request.operation: holds no operation; put fragments beside the operations that use them"
    if wrong := validate(schema, document):
        return "; ".join(f"document.invalid: {_placed(one)}" for one in wrong)
    return None


def _placed(error: GraphQLError) -> str:
    place = f" (line {error.locations[0].line}, column {error.locations[0].column})" if error.locations else ""
    return error.message + place


def add(files: Iterable[Path], manifest: Path, schema: GraphQLSchema, gate: Gate) -> list[tuple[Path, str, bool]]:
    """Add documents to a manifest, made if there is none: each file, its id, and whether it is new there.

    All or nothing: raises Refused with a line for each file, or entry, that is wrong, and then writes nothing.
    """
    known: dict[str, Any] = {}
    if manifest.exists():
        known, problems = checked(manifest, schema, gate)
        refuse(manifest, problems)
    wrongs: list[Problem] = []
    added: list[tuple[Path, str, bool]] = []
    for file in files:
        try:
            text = file.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as problem:
            wrongs.append(Problem(str(file), f"cannot be read as UTF-8 ({type(problem).__name__})"))
            continue
        if (wrong := problem_of(text, schema, gate)) is not None:
            wrongs.append(Problem(str(file), wrong))
        id = document_id(text)
        added.append((file, id, id not in known))
        known[id] = text
    refuse(manifest, wrongs)
    _write(manifest, orjson.dumps(known, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE))
    return added


def _write(file: Path, content: bytes) -> None:
    """Put the content in the file's place at once: a process that starts meanwhile reads all of the old or the new."""
    try:
        with tempfile.NamedTemporaryFile(dir=file.parent, prefix=f".{file.name}.", delete=False) as beside:
            beside.write(content)
        path = Path(beside.name)
        path.chmod(file.stat().st_mode & 0o777 if file.exists() else 0o644)
        os.replace(path, file)
    except OSError as problem:
        raise Refused("document.manifest", f"{file} cannot be written ({problem.strerror}).") from None
