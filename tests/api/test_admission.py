"""How many requests are let in at once, and what becomes of the others."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message, Receive, Scope, Send

from api.app import create_app
from api.chinese.sentences import SENTENCES
from api.edge.admission import Admission, Admitting, Lane
from api.edge.documents import document_id
from domain.kernel import Role
from domain.store.casebook import House
from tests.api.conftest import SETTINGS, Desk, Edge, Office, intake, open_office, running
from tests.api.users import eventually
from tests.conftest import MASTER_KEY, Database

QUESTION = "{ complaints { totalCount } }"
LIMITS = {"questions_at_once": 2, "commands_at_once": 2, "queue_max": 1, "queue_seconds": 30.0, "requests_open_max": 9}


@given(
    most=st.integers(1, 3),
    queue=st.integers(0, 3),
    steps=st.lists(st.sampled_from(["come", "leave", "cancel"]), max_size=40),
)
def test_a_lane_holds_no_more_than_it_may_and_lets_in_by_turn(most: int, queue: int, steps: list[str]) -> None:
    async def go() -> None:
        lane, inside, waiting = Lane("test", most, queue, 60.0), list[int](), list[tuple[int, asyncio.Task[bool]]]()
        for number, step in enumerate(steps):
            if step == "come":
                task = asyncio.create_task(lane.enter())
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                if not task.done():
                    waiting.append((number, task))
                elif task.result():
                    inside.append(number)
                else:
                    assert len(inside) == most
                    assert len(waiting) == queue
            elif step == "leave" and inside:
                inside.pop(0)
                lane.leave()
                if waiting:
                    turn, task = waiting.pop(0)
                    assert await task, "whoever has waited longest comes next"
                    inside.append(turn)
            elif step == "cancel" and waiting:
                _, task = waiting.pop()
                task.cancel()
                await asyncio.wait([task])
            assert lane.inside == len(inside) <= most
            assert lane.waiting == len(waiting) <= queue
            assert not waiting or len(inside) == most, "nobody waits beside an empty place"
        for _, task in waiting:
            task.cancel()
        await asyncio.gather(*(task for _, task in waiting), return_exceptions=True)

    asyncio.run(go())


def test_a_place_that_is_given_to_one_who_has_just_gone_is_given_on() -> None:
    async def go() -> None:
        lane = Lane("test", 1, 2, 60.0)
        assert await lane.enter()
        first, second = asyncio.create_task(lane.enter()), asyncio.create_task(lane.enter())
        await asyncio.sleep(0.01)
        lane.leave()  # to the first, who is cancelled before it hears of it
        first.cancel()
        assert await second
        assert (lane.inside, lane.waiting) == (1, 0)

    asyncio.run(go())


def test_nobody_waits_longer_than_is_said() -> None:
    async def go() -> None:
        lane = Lane("test", 1, 1, 0.05)
        assert await lane.enter()
        assert not await lane.enter()
        assert (lane.inside, lane.waiting) == (1, 0)
        lane.leave()
        assert await lane.enter()

    asyncio.run(go())


def test_whoever_would_wait_in_vain_is_refused_at_once() -> None:
    """Places are given up every 0.2 s; of ten who come, those wait who can be let in within 0.5 s."""

    async def go() -> int:
        lane = Lane("test", 1, 10, 0.5)
        assert await lane.enter()
        for _ in range(20):  # it has been busy for a while
            waits = asyncio.create_task(lane.enter())
            await asyncio.sleep(0)
            lane._left_at -= 0.2
            lane.leave()
            assert await waits
        come = [asyncio.create_task(lane.enter()) for _ in range(10)]
        await asyncio.sleep(0)
        waiting = lane.waiting
        for task in come:
            task.cancel()
        await asyncio.gather(*come, return_exceptions=True)
        return waiting

    assert 3 <= asyncio.run(go()) <= 5


class Busy:
    """An office whose questions about cases wait for as long as `held` lasts."""

    def __init__(self, database: Database, house: House, edge: Edge) -> None:
        self._database = database
        self.edge = edge
        self.admission: Admission = edge.app.state.admission
        self.office: Office = open_office(edge, house.casebook("BUSY"))
        self.auditor, self.agent = self.office[Role.AUDITOR], self.office[Role.CS_AGENT]
        for desk in (self.auditor, self.agent):
            desk.ask("{ me { roles } }")  # whoever is known needs no more look-ups
        self.threads = ThreadPoolExecutor(10)

    @contextmanager
    def full_of_questions(self) -> Generator[list[Future[httpx.Response]]]:
        """The questions' lane is full, and so is its queue."""
        with psycopg.connect(self._database.owner) as owner:
            owner.execute("LOCK TABLE anjuan.complaint_case IN ACCESS EXCLUSIVE MODE")
            asked = [self.threads.submit(self.send, self.auditor, {"query": QUESTION}) for _ in range(3)]
            eventually(lambda: (self.admission.questions.inside, self.admission.questions.waiting) == (2, 1))
            yield asked
            owner.rollback()

    def send(self, desk: Desk, said: Any, **parts: Any) -> httpx.Response:
        content = json.dumps(said) if isinstance(said, dict) else said
        headers = {"Authorization": f"Bearer {desk.token}", "Content-Type": "application/json", **parts}
        return self.edge.send("POST", "/graphql", content=content, headers=headers)


@pytest.fixture
def busy(database: Database) -> Generator[Busy]:
    settings = SETTINGS.model_copy(update=LIMITS)
    with House(database.app, MASTER_KEY) as house, running(create_app(settings, house)) as edge:
        found = Busy(database, house, edge)
        with found.threads:
            yield found


def refused(answer: httpx.Response) -> None:
    (error,) = answer.json()["errors"]
    assert (answer.status_code, error["extensions"]["code"]) == (503, "server.busy")
    assert error["extensions"]["sentenceZh"] == SENTENCES["server.busy"]
    assert 1 <= int(answer.headers["retry-after"]) <= 3
    assert answer.headers["x-correlation-id"]
    assert answer.headers["cache-control"] == "no-store"


def test_questions_over_the_bound_are_refused_and_commands_are_done(busy: Busy) -> None:
    with busy.full_of_questions() as asked:
        refused(busy.send(busy.auditor, {"query": QUESTION}))
        refused(busy.edge.send("GET", "/graphql", params={"query": QUESTION}))
        assert busy.agent.done("complaintReceive", **intake())["version"] == "1"
        for path in ("/livez", "/readyz"):
            assert busy.edge.send("GET", path).status_code == 200
        assert not any(one.done() for one in asked)
    assert [one.result().status_code for one in asked] == [200, 200, 200]
    assert busy.send(busy.auditor, {"query": QUESTION}).status_code == 200
    assert (busy.admission.questions.inside, busy.admission.commands.inside, busy.admission.open) == (0, 0, 0)


@pytest.mark.parametrize("body", [b"no JSON", b"\xff", b'{"query": "{ nobody }"}', b""])
def test_what_is_over_is_refused_before_its_body_is_parsed_and_its_token_looked_up(busy: Busy, body: bytes) -> None:
    with busy.full_of_questions():
        refused(busy.send(busy.auditor, body, Authorization="Bearer anjuan_unknown"))


@pytest.mark.parametrize(
    "said",
    [
        {"query": "{ me { roles } } # mutation"},
        {"query": "query A { me { roles } } mutation B { __typename }", "operationName": "A"},
        {"query": "query ($x: String) { me { roles } }", "variables": {"x": "mutation"}},
    ],
)
def test_a_question_that_says_mutation_finds_no_more_room_than_others(busy: Busy, said: dict[str, Any]) -> None:
    with busy.full_of_questions():
        refused(busy.send(busy.auditor, said))
        assert busy.admission.commands.inside == 0


def test_questions_that_say_mutation_keep_no_command_out_while_they_wait(busy: Busy) -> None:
    busy.admission.questions._queue = 10
    with busy.full_of_questions() as asked:
        asked += [busy.threads.submit(busy.send, busy.auditor, {"query": QUESTION + " # mutation"}) for _ in range(2)]
        eventually(lambda: busy.admission.questions.waiting == 3)
        assert busy.admission.commands.inside == 0
        assert busy.agent.done("complaintReceive", **intake())["version"] == "1"
    assert [one.result().status_code for one in asked] == [200] * 5
    assert (busy.admission.questions.inside, busy.admission.commands.inside, busy.admission.open) == (0, 0, 0)


def test_a_question_that_says_mutation_is_answered_where_there_is_room(busy: Busy) -> None:
    answer = busy.send(busy.auditor, {"query": "{ me { roles } } # mutation"})
    assert answer.json()["data"]["me"]["roles"] == ["AUDITOR"]
    assert (busy.admission.questions.inside, busy.admission.commands.inside) == (0, 0)


def test_a_trusted_decision_goes_with_the_commands_though_its_body_does_not_say_so(
    house: House, tmp_path: Path
) -> None:
    texts = ("mutation Decide { __typename }", "query Ask { me { roles } }")
    decision, question = ids = [document_id(text) for text in texts]
    manifest = tmp_path / "documents.json"
    manifest.write_text(json.dumps(dict(zip(ids, texts, strict=True))))
    app = create_app(SETTINGS.model_copy(update={"documents": manifest}), house)
    is_command = app.state.admission.is_command
    assert is_command(json.dumps({"documentId": decision}).encode())
    assert not is_command(json.dumps({"documentId": question}).encode())
    assert not is_command(b'{"documentId": "sha256:%b"}' % (b"0" * 64))
    assert is_command(b'{"query": "mutation { __typename }"}')


def test_what_was_refused_is_counted_and_said_together(busy: Busy) -> None:
    with busy.full_of_questions():
        for _ in range(5):
            refused(busy.send(busy.auditor, {"query": QUESTION}))
        page = busy.edge.send("GET", "/metrics", headers={"Authorization": f"Bearer {busy.auditor.token}"}).text
    assert 'anjuan_requests_total{kind="other",outcome="shed",route="/graphql"} 5.0' in page
    assert 'anjuan_refusals_total{code="server.busy"} 5.0' in page
    assert 'anjuan_requests_in_flight{lane="questions"} 2.0' in page
    assert 'anjuan_requests_waiting{lane="questions"} 1.0' in page
    assert "anjuan_requests_open 3.0" in page


class Raw:
    """Requests as a server hands them over: pieces of a body that come when the test says."""

    def __init__(self, **limits: Any) -> None:
        self.admission = Admission(SETTINGS.model_copy(update={**LIMITS, **limits}))
        self.hold, self.answered = asyncio.Event(), list[bytes]()
        self.app = Admitting(self._app, self.admission)

    async def _app(self, _: Scope, receive: Receive, send: Send) -> None:
        self.answered.append((await receive())["body"])
        await self.hold.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    def request(self, *pieces: Message) -> tuple[asyncio.Task[None], list[int]]:
        """The task of one request, and the statuses it was answered with."""
        coming, statuses = list(pieces), list[int]()

        async def receive() -> Message:
            if coming:
                return coming.pop(0)
            await asyncio.Event().wait()
            raise AssertionError

        async def send(message: Message) -> None:
            if "status" in message:
                statuses.append(message["status"])

        scope: Scope = {"type": "http", "method": "POST", "path": "/graphql", "headers": []}
        task = asyncio.create_task(self.app(scope, receive, send))
        return task, statuses


def piece(body: bytes = b"", *, more: bool = False) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


GONE: Message = {"type": "http.disconnect"}


def test_whoever_goes_while_waiting_gives_up_the_place() -> None:
    async def go() -> None:
        raw = Raw()
        inside = [raw.request(piece()) for _ in range(2)]
        await asyncio.sleep(0.01)
        gone, _ = raw.request(piece(b"gone"), GONE)
        await asyncio.wait_for(gone, 10)
        assert raw.admission.questions.waiting == 0
        waits, statuses = raw.request(piece(b"stays"))
        await asyncio.sleep(0.01)
        raw.hold.set()
        await asyncio.gather(waits, *(task for task, _ in inside))
        assert statuses == [200]
        assert raw.answered == [b"", b"", b"stays"]
        assert raw.admission.open == 0

    asyncio.run(go())


def test_whoever_goes_while_sending_is_nobody_any_more() -> None:
    async def go() -> None:
        raw = Raw()
        for pieces in ((GONE,), (piece(b"a", more=True), GONE)):
            task, statuses = raw.request(*pieces)
            await asyncio.wait_for(task, 10)
            assert statuses == []
        assert (raw.admission.open, raw.answered) == (0, [])

    asyncio.run(go())


def test_more_requests_than_may_be_open_are_refused_before_they_are_read() -> None:
    async def go() -> None:
        raw = Raw()
        begun = [raw.request(piece(b"half", more=True)) for _ in range(9)]
        await asyncio.sleep(0.01)
        task, statuses = raw.request()  # it would never be read to its end
        await asyncio.wait_for(task, 10)
        assert statuses == [503]
        assert raw.admission.open == 9
        for one, _ in begun:
            one.cancel()
        await asyncio.gather(*(one for one, _ in begun), return_exceptions=True)
        assert raw.admission.open == 0

    asyncio.run(go())


def test_a_body_comes_in_pieces_and_is_read_no_further_than_its_limit() -> None:
    async def go() -> None:
        raw = Raw(body_bytes_max=1024)
        raw.hold.set()
        whole, _ = raw.request(piece(b"a", more=True), piece(b"b", more=True), piece(b"c"))
        await asyncio.wait_for(whole, 10)
        endless, _ = raw.request(*(piece(b"x" * 1000, more=True) for _ in range(2)))
        await asyncio.wait_for(endless, 10)
        assert raw.answered == [b"abc", b"x" * 2000]

    asyncio.run(go())


def test_a_body_has_its_time() -> None:
    async def go() -> None:
        raw = Raw(body_seconds=0.05)
        task, statuses = raw.request(piece(b"half", more=True))
        await asyncio.wait_for(task, 10)
        assert (statuses, raw.answered, raw.admission.open) == ([408], [], 0)

    asyncio.run(go())
