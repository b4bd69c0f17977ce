"""What takes time: one's own writes while a runner follows, the same command from many hands, questions cut short."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Event as Signal
from threading import Thread
from uuid import uuid4

import psycopg
import pytest

from api.app import create_app
from domain.kernel import Role
from domain.store.casebook import Casebook, House
from projections.runner import follow
from projections.views import VIEWS
from tests.api.conftest import SETTINGS, Office, intake, open_office, running
from tests.conftest import MASTER_KEY, Database

LISTED = """query ($id: UUID!, $p: BigInt!) { complaint(id: $id, consistentWith: $p) { version position
  history(last: 1) { edges { node { version } } } clocks(first: 100) { totalCount } } }"""


def test_what_was_written_is_read_by_whoever_has_its_position(house: House, casebook: Casebook) -> None:
    """test-list 31: with a runner following, no read is older than the position it asks for."""
    stop, wake = Signal(), Signal()
    runner = Thread(target=follow, args=(house, VIEWS.values()), kwargs={"stop": stop, "wake": wake})
    runner.start()
    try:
        with running(create_app(SETTINGS.model_copy(update={"wait_seconds": 20.0}), house, wake=wake.set)) as edge:
            office = open_office(edge, casebook)
            agent, director = office[Role.CS_AGENT], office[Role.CS_DIRECTOR]
            said = [agent.done("complaintReceive", **intake())]
            id = said[0]["complaintId"]
            said.append(director.done("complaintAccept", id=id, cause="因", course="过", demand="求"))
            for n in range(12):
                said.append(agent.done("complaintGatherEvidence", id=id, source="监控", content=f"第{n}段"))
                shown = director.ask(LISTED, id=id, p=said[-1]["position"])["complaint"]
                assert int(shown["version"]) == int(said[-1]["version"])
                assert int(shown["position"]) == int(said[-1]["position"])
                assert shown["history"]["edges"][0]["node"]["version"] == shown["version"]
    finally:
        stop.set()
        wake.set()
        runner.join()


def test_a_runner_of_this_process_is_woken_by_what_was_done(house: House, casebook: Casebook) -> None:
    wake = Signal()
    with running(create_app(SETTINGS, house, wake=wake.set)) as edge:
        agent = open_office(edge, casebook)[Role.CS_AGENT]
        agent.refused("complaintReceive", **intake(complainant=""))
        assert not wake.is_set()
        agent.done("complaintReceive", **intake())
        assert wake.is_set()


def test_the_same_command_from_many_hands_at_once_is_done_once(office: Office) -> None:
    """test-list 4"""
    agent, command, said = office[Role.CS_AGENT], uuid4(), intake()
    head = office.casebook.head()
    with ThreadPoolExecutor(8) as hands:
        sent = [hands.submit(agent.done, "complaintReceive", command_id=command, **said) for _ in range(8)]
        answers = [one.result() for one in sent]
    assert office.casebook.head() == head + 1
    assert {(a["version"], a["position"], a["complaintId"]) for a in answers} == {("1", str(head + 1), str(command))}


@pytest.mark.parametrize(
    "query",
    [
        "{ complaints { totalCount } }",
        "query ($id: UUID!) { complaint(id: $id) { history { edges { cursor } } } }",
    ],
)
def test_a_question_that_takes_too_long_is_cut_short(database: Database, query: str) -> None:
    with House(database.app, MASTER_KEY) as house:
        brief = SETTINGS.model_copy(update={"request_seconds": 0.3})
        with running(create_app(brief, house)) as edge:
            office = open_office(edge, house.casebook("SLOW"))
            case = office[Role.CS_AGENT].done("complaintReceive", **intake())["complaintId"]
            office.follow()
            auditor = office[Role.AUDITOR]
            table = "history" if "history" in query else "complaint_case"
            variables = {"id": case} if "$id" in query else {}
            with psycopg.connect(database.owner) as owner:
                owner.execute(f"LOCK TABLE anjuan.{table} IN ACCESS EXCLUSIVE MODE".encode())
                answer = edge.send(
                    "POST",
                    "/graphql",
                    json={"query": query, "variables": variables},
                    headers={"Authorization": f"Bearer {auditor.token}"},
                )
            assert answer.status_code == 504
            assert answer.json()["errors"][0]["extensions"]["code"] == "request.timeout"
            assert "data" in auditor.post(query, **variables), "and the connection is good for the next question"
