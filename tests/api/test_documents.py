"""Trusted documents: asked for by id, checked when the process starts; others only by whoever may send their own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from api.access.roles import Principal
from api.app import create_app
from api.edge.asked import Asked, Unacceptable
from api.edge.documents import Documents, add, checked, document_id, trusted
from api.limits import Gate
from api.schema import build
from domain.credential import Scope
from domain.kernel import Refused, Role
from domain.store.casebook import Casebook, House
from tests.api.conftest import SETTINGS, Desk, Edge, Office, open_office, running

SCHEMA = build(SETTINGS)._schema
GATE = Gate(SCHEMA, SETTINGS)
ME = "query Me { me { roles } }"
PAGES = "query Pages($n: Int = 2) { complaints(first: $n) { totalCount } }\n"
TWO = "query A { me { roles } } query B { me { number } }"
RECEIVE = (
    "mutation Receive($commandId: UUID!, $receivedAt: DateTime!, $complainant: String!, $statement: String!)"
    " { complaintReceive(commandId: $commandId, receivedAt: $receivedAt, channel: LETTER, complainant: $complainant,"
    " statement: $statement) { __typename } }"
)
TEXTS = (ME, PAGES, TWO, RECEIVE)


def hexadecimal(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def written(place: Path, entries: Any) -> Path:
    file = place / "persisted-documents.json"
    file.write_text(json.dumps(entries), "utf-8")
    return file


@pytest.fixture(scope="module")
def edge(house: House, tmp_path_factory: pytest.TempPathFactory) -> Generator[Edge]:
    """An edge with a manifest whose ids come with the prefix and without."""
    entries = {("sha256:" if n % 2 else "") + hexadecimal(text): text for n, text in enumerate(TEXTS)}
    manifest = written(tmp_path_factory.mktemp("documents"), entries)
    with running(create_app(SETTINGS.model_copy(update={"documents": manifest}), house)) as opened:
        yield opened


@pytest.fixture
def office(edge: Edge, casebook: Casebook) -> Office:
    return open_office(edge, casebook)


@pytest.fixture
def desk(office: Office) -> Desk:
    return office[Role.CS_DIRECTOR]


def send(desk: Desk, method: str = "POST", **parts: Any) -> tuple[int, dict[str, Any]]:
    """A request: parts of the body, or of the address."""
    given = {"json": parts} if method == "POST" else {"params": parts}
    answer = desk.edge.send(method, "/graphql", headers={"Authorization": f"Bearer {desk.token}"}, **given)
    return answer.status_code, answer.json()


def refusal(said: dict[str, Any]) -> str:
    (error,) = said["errors"]
    assert error["message"]
    assert error["extensions"]["sentenceZh"]
    return error["extensions"]["code"]


# asking


def test_the_example_of_the_specification_has_its_id() -> None:
    text = "query ($id: ID!) {\n  user(id: $id) {\n    name\n  }\n}"
    assert document_id(text) == "sha256:7dba4bd717b41f10434822356a93c32b1fb4907b983e854300ad839f84cdcd6e"


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_trusted_document_is_asked_for_by_its_id(desk: Desk, method: str) -> None:
    assert send(desk, method, documentId=document_id(ME)) == (200, {"data": {"me": {"roles": ["CS_DIRECTOR"]}}})
    variables: Any = {"n": 1} if method == "POST" else '{"n": 1}'
    said = send(desk, method, documentId=document_id(PAGES), variables=variables)
    assert said == (200, {"data": {"complaints": {"totalCount": "0"}}})
    assert send(desk, method, documentId=document_id(TWO), operationName="A")[1]["data"]["me"] == {
        "roles": ["CS_DIRECTOR"]
    }


def test_a_trusted_document_is_held_to_every_rule(desk: Desk) -> None:
    """Variables, the operation's name, and no command by GET."""
    status, said = send(desk, documentId=document_id(PAGES), variables={"n": 0})
    assert (status, refusal(said)) == (200, "page.size")
    assert refusal(send(desk, documentId=document_id(PAGES), variables={"n": "x"})[1]) == "variable.invalid"
    status, said = send(desk, documentId=document_id(TWO))
    assert (status, refusal(said)) == (400, "request.operation")
    variables = json.dumps(
        {"commandId": str(uuid4()), "receivedAt": "2026-01-01T00:00:00Z", "complainant": "某", "statement": "某事"}
    )
    status, said = send(desk, "GET", documentId=document_id(RECEIVE), variables=variables)
    assert (status, refusal(said)) == (405, "request.method")


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    ("status", "code", "parts"),
    [
        (400, "document.both", {"query": ME, "documentId": document_id(ME)}),
        (404, "document.unknown", {"documentId": document_id("{ me { number } }")}),
        (400, "document.id", {"documentId": hexadecimal(ME)}),
        (400, "document.id", {"documentId": document_id(ME).upper()}),
        (400, "document.id", {"documentId": document_id(ME)[:-1]}),
        (400, "document.id", {"documentId": document_id(ME) + "0"}),
        (400, "document.id", {"documentId": document_id(ME) + "\n"}),
        (400, "document.id", {"documentId": "sha1:" + "0" * 64}),
        (400, "document.id", {"documentId": ""}),
        (400, "document.id", {"documentId": "../../etc/passwd"}),
        (400, "request.body", {"operationName": "Me"}),
        (400, "request.body", {"query": ""}),
    ],
)
def test_what_names_no_document_is_refused(
    desk: Desk, method: str, status: int, code: str, parts: dict[str, str]
) -> None:
    found, said = send(desk, method, **parts)
    assert (found, refusal(said)) == (status, code)
    assert "data" not in said


def test_an_id_that_is_no_text_is_no_request(desk: Desk) -> None:
    wrong: list[Any] = [1, None, [], {"sha256": "x"}, True]
    for id in wrong:
        status, said = send(desk, documentId=id)
        assert (status, refusal(said)) == (400, "request.body")


def test_without_a_manifest_every_id_is_unknown_and_every_document_may_be_sent(office: Office, house: House) -> None:
    desk = office[Role.CS_AGENT]
    with running(create_app(SETTINGS, house)) as other:
        bare = Desk(other, desk.token, desk.id)
        assert refusal(send(bare, documentId=document_id(ME))[1]) == "document.unknown"
        assert send(bare, query=ME)[0] == 200
    sent = Asked(query="{ me { name } }")
    assert Documents().chosen(sent, replace(OWN, scopes=frozenset({Scope.ASK}))) is sent


# sending one's own


OWN = Principal("BJ", UUID(int=1), frozenset({Role.CS_AGENT}), frozenset(Scope), "t")


def test_other_documents_need_the_scope() -> None:
    known = Documents({document_id(text): text for text in TEXTS})
    few = replace(OWN, scopes=frozenset({Scope.ASK, Scope.DECIDE}))
    for text in ("{ me { name } }", ME + " ", ME.replace("Me", "me"), "{"):
        assert known.chosen(Asked(query=text), OWN).query == text
        with pytest.raises(Unacceptable) as refused:
            known.chosen(Asked(query=text), few)
        assert (refused.value.status, refused.value.code) == (403, "document.untrusted")
    for who in (OWN, few):
        assert known.chosen(Asked(query=ME), who).query == ME, "a trusted text is trusted however it is sent"
        assert known.chosen(Asked(document_id=document_id(ME)), who).query == ME


def test_a_session_without_the_scope_is_refused_over_http(
    office: Office, edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = office[Role.CS_DIRECTOR]
    assert send(desk, query="{ me { name } }")[0] == 200
    keeper: Any = edge_of(edge).doorkeeper
    known = keeper.principal

    def nobody(_: str | None) -> None:
        """Everybody is looked up."""

    async def fewer(*said: Any) -> Principal:
        return replace(await known(*said), scopes=frozenset({Scope.ASK}))

    monkeypatch.setattr(keeper, "principal", fewer)
    monkeypatch.setattr(keeper, "remembered", nobody)
    for method in ("GET", "POST"):
        status, said = send(desk, method, query="{ me { name } }")
        assert (status, refusal(said)) == (403, "document.untrusted")
        assert send(desk, method, documentId=document_id(ME))[0] == 200


def edge_of(edge: Edge) -> Any:
    """The object behind `/graphql`."""
    routes: list[Any] = list(edge.app.routes)
    (route,) = (r for r in routes if r.path == "/graphql" and hasattr(r, "methods"))
    return route.endpoint.__self__


# the manifest


DEAR = "{ complaints(first: 100) { edges { node { history(first: 100) { edges { node { changes { field } } } } } } } }"
WRONG: dict[str, tuple[str, Any, str]] = {
    "the id of another text": (document_id(ME), ME + " ", "is not the SHA-256 of its document"),
    "SHA-1, as graphql-codegen's default": (hashlib.sha1(ME.encode()).hexdigest(), ME, "SHA-1"),
    "MD5, as relay-compiler's default": (hashlib.md5(ME.encode()).hexdigest(), ME, "MD5"),
    "a name": ("Me", ME, "is not sha256:"),
    "upper case": (hexadecimal(ME).upper(), ME, "is not sha256:"),
    "another prefix": ("md5:" + hexadecimal(ME), ME, "is not sha256:"),
    "no text": (document_id(ME), {"body": ME}, "is no text"),
    "no GraphQL": (document_id("{ me {"), "{ me {", "document.syntax: Syntax Error"),
    "no operation": (document_id(F := "fragment F on Me { name }"), F, "request.operation"),
    "a field there is not": (
        document_id(N := "{ me { nothing } }"),
        N,
        "document.invalid: Cannot query field 'nothing'",
    ),
    "too deep": (document_id(D := "{ a " * 20 + "{ b }" + " }" * 20), D, "limit.depth"),
    "too dear": (document_id(DEAR), DEAR, "limit.cost"),
    "too many tokens": (document_id(T := "{ " + "me { roles } " * 700 + "}"), T, "limit.tokens"),
}


@pytest.mark.parametrize("which", WRONG)
def test_each_wrong_entry_is_told_with_file_id_and_reason(tmp_path: Path, which: str) -> None:
    id, text, reason = WRONG[which]
    manifest = written(tmp_path, {id: text, document_id(PAGES): PAGES})
    with pytest.raises(Refused) as refused:
        trusted(manifest, SCHEMA, GATE)
    assert refused.value.code == "document.manifest"
    (line,) = refused.value.sentence.splitlines()[1:]
    assert line.startswith(f"{manifest}: {id}: ")
    assert reason in line
    texts, (problem,) = checked(manifest, SCHEMA, GATE)
    assert list(texts) == [document_id(PAGES)]
    assert problem.id == id


def test_a_wrong_manifest_refuses_to_start_with_all_that_is_wrong(house: House, tmp_path: Path) -> None:
    entries = {id: text for which, (id, text, _) in WRONG.items() if which != "no text"}
    manifest = written(tmp_path, entries)
    with pytest.raises(Refused) as refused:
        create_app(SETTINGS.model_copy(update={"documents": manifest}), house)
    lines = refused.value.sentence.splitlines()[1:]
    assert len(lines) == len(entries)
    assert all(any(f": {id}: " in line for line in lines) for id in entries)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'"x"'])
def test_what_is_no_manifest_refuses_to_start(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "m.json"
    file.write_bytes(content)
    with pytest.raises(Refused, match=r"document\.manifest.*m\.json"):
        trusted(file, SCHEMA, GATE)
    with pytest.raises(Refused, match=r"cannot be read"):
        trusted(tmp_path / "nowhere.json", SCHEMA, GATE)


def test_many_problems_are_counted_and_not_all_listed(tmp_path: Path) -> None:
    manifest = written(tmp_path, {f"d{n}": ME for n in range(120)})
    with pytest.raises(Refused) as refused:
        trusted(manifest, SCHEMA, GATE)
    assert refused.value.sentence.endswith("… and 70 more")


# making one


def test_documents_are_added_all_or_none(tmp_path: Path) -> None:
    manifest = tmp_path / "m.json"
    files = [tmp_path / f"{n}.graphql" for n in range(2)]
    for file, text in zip(files, (ME, PAGES), strict=True):
        file.write_text(text, "utf-8")
    assert add(files, manifest, SCHEMA, GATE) == [
        (f, document_id(t), True) for f, t in zip(files, (ME, PAGES), strict=True)
    ]
    assert json.loads(manifest.read_text("utf-8")) == {document_id(t): t for t in (ME, PAGES)}
    assert len(trusted(manifest, SCHEMA, GATE)) == 2
    before = manifest.read_bytes()
    assert [new for _, _, new in add(files, manifest, SCHEMA, GATE)] == [False, False]
    assert manifest.read_bytes() == before

    good, bad = tmp_path / "good.graphql", tmp_path / "bad.graphql"
    good.write_text(TWO, "utf-8")
    bad.write_text("{ me { nothing } }", "utf-8")
    latin = tmp_path / "latin.graphql"
    latin.write_bytes(b"{ me { name } } # \xff")
    with pytest.raises(Refused) as refused:
        add([good, bad, latin, tmp_path / "gone.graphql"], manifest, SCHEMA, GATE)
    said = refused.value.sentence
    assert "bad.graphql: document.invalid" in said
    assert "latin.graphql: cannot be read" in said
    assert "gone.graphql: cannot be read" in said
    assert "good.graphql" not in said
    assert manifest.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".")) == []


def test_nothing_is_added_to_a_manifest_that_is_wrong(tmp_path: Path) -> None:
    manifest = written(tmp_path, {"Me": ME})
    file = tmp_path / "a.graphql"
    file.write_text(PAGES, "utf-8")
    with pytest.raises(Refused, match=r"Me: the id is not"):
        add([file], manifest, SCHEMA, GATE)
    assert json.loads(manifest.read_text("utf-8")) == {"Me": ME}


def test_the_commands_make_and_check_a_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from api import cli

    def anjuan(*words: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["anjuan", "documents", *words])
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
        else:
            code = 0
        said = capsys.readouterr()
        return code, said.out + said.err

    monkeypatch.setenv("COLUMNS", "200")
    file, manifest = tmp_path / "me.graphql", tmp_path / "m.json"
    file.write_text(ME, "utf-8")
    assert anjuan("add", str(file), "--to", str(manifest)) == (0, f"{document_id(ME)}  {file}\n")
    assert anjuan("add", str(file), "--to", str(manifest))[1].endswith("(was there already)\n")
    code, said = anjuan("check", str(manifest))
    assert (code, said.startswith("1 document(s), all right.")) == (0, True)
    file.write_text("{ nobody }", "utf-8")
    code, said = anjuan("add", str(file), "--to", str(manifest))
    assert code == 1
    assert "Cannot query field 'nobody'" in said
    assert anjuan("add", str(file), str(file), "--to", str(manifest))[0] == 1
    manifest.write_text('{"x": "{ me { name } }"}', "utf-8")
    code, said = anjuan("check", str(manifest))
    assert code == 1
    assert "x: the id is not" in said
