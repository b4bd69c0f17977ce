"""The page to try GraphQL on: in development only, from here only, and it works."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Generator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest

from api.access.token import issue_token
from api.app import create_app
from api.edge.explorer import assets
from api.settings import Environment
from domain.kernel import Role
from domain.store.casebook import House
from projections.runner import catch_up
from projections.views import VIEWS
from tests.api.browser import Page, browser
from tests.api.conftest import SETTINGS, Edge, intake, open_office, running
from tests.api.served import Served, served
from tests.conftest import MASTER_KEY, Database

HTML = {"Accept": "text/html"}
ELSEWHERE = re.compile(rb"(?:https?:)?//(?!www\.w3\.org/2000/svg)[a-z0-9.-]+\.[a-z]{2,}")


@pytest.fixture
def developing(house: House) -> Generator[Edge]:
    settings = SETTINGS.model_copy(update={"environment": Environment.DEVELOPMENT})
    with running(create_app(settings, house)) as edge:
        yield edge


def test_in_production_there_is_no_page(edge: Edge) -> None:
    assert edge.send("GET", "/graphql", headers=HTML).status_code == 401
    for name in assets():
        assert edge.send("GET", f"/explorer/{name}", headers=HTML).status_code == 404


def test_the_page_and_all_it_names_come_from_here(developing: Edge) -> None:
    page = developing.send("GET", "/graphql", headers=HTML)
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    named = set(re.findall(r"(?:src|href)=\"([^\"]+)\"", page.text))
    for name, content in assets().items():
        assert not ELSEWHERE.search(content), name
        named |= {f"/explorer/{part.decode()}" for part in re.findall(rb"from '\./([a-z.]+)'", content)}
    assert len(named) > 6
    for path in named:
        answer = developing.send("GET", path)
        assert answer.status_code == 200, path
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert named >= {f"/explorer/{name}" for name in assets() if name.endswith((".js", ".css", ".svg"))}


def test_the_page_holds_no_script_of_its_own() -> None:
    """The policy would not run it."""
    page = assets()["index.html"].decode()
    assert re.findall(r"<script[^>]*>(.*?)</script>", page, re.DOTALL) == [""]
    assert not re.search(r"\son[a-z]+=|style=", page)


@pytest.mark.parametrize(
    "headers", [{}, {"Accept": "application/json"}, {"Accept": "application/graphql-response+json"}]
)
def test_programs_get_no_page(developing: Edge, headers: dict[str, str]) -> None:
    answer = developing.send("GET", "/graphql", headers=headers)
    assert answer.status_code == 401
    assert answer.headers["content-type"].startswith("application/json")


# in a browser


class Seen:
    """The page in a browser, at a process that serves it."""

    def __init__(self, page: Page, one: Served, token: str) -> None:
        self.page, self.one, self.token = page, one, token
        page.send("Network.setUserAgentOverride", userAgent="Mozilla/5.0", acceptLanguage="zh-CN")
        page.send("Page.navigate", url=one.url)
        page.until("document.querySelector('#run')?.textContent")

    def sign_in(self) -> None:
        self.page.run("document.querySelector('#sign').click()")
        self.page.run("document.querySelector('#token').focus()")
        self.page.type(self.token)
        self.page.press("Enter", code=13)
        self.page.until("document.querySelector('#who').textContent.includes('AUDITOR')")

    def write(self, document: str) -> None:
        self.page.run("(() => { const a = document.querySelector('#document textarea'); a.focus(); a.select(); })()")
        self.page.send("Input.insertText", text=document)

    def answer(self) -> str:
        return self.page.until("document.querySelector('#answer').textContent")


@pytest.fixture
def seen(database: Database) -> Generator[Seen]:
    with House(database.app, MASTER_KEY) as house:
        unasked: Any = None
        office = open_office(unasked, house.casebook("SEEN"))
        tokens = {
            role: issue_token(house, "SEEN", office.enrolled(role), "test", timedelta(days=1))
            for role in (Role.AUDITOR, Role.CS_AGENT)
        }
        with browser() as page, served(database, environment="development", quiet=True) as one:
            _receive(one, tokens[Role.CS_AGENT])
            catch_up(house, VIEWS.values(), "SEEN")
            yield Seen(page, one, tokens[Role.AUDITOR])


def _receive(one: Served, token: str) -> None:
    at = intake()["receivedAt"].isoformat()
    query = (
        f'mutation {{ complaintReceive(commandId: "00000000-0000-4000-8000-000000000001", receivedAt: "{at}",'
        ' channel: TELEPHONE, complainant: "王女士", statement: "等候过久") { __typename } }'
    )
    answer = httpx.post(one.url, json={"query": query}, headers={"Authorization": f"Bearer {token}"}, timeout=30)
    assert answer.json()["data"]["complaintReceive"]["__typename"] == "ComplaintDecided"


@pytest.mark.timeout(120)
def test_somebody_signs_in_asks_and_reads_in_a_browser(seen: Seen, tmp_path: Path) -> None:
    page = seen.page
    pictures = Path(os.environ.get("ANJUAN_TEST_PICTURES", tmp_path))
    assert page.run("document.querySelector('#who').textContent") == "未登录"
    seen.sign_in()
    assert page.run("sessionStorage.getItem('anjuan.token')") == seen.token
    assert page.run("Object.values(localStorage).join()") in ("", "zh")

    seen.write("query List { complaints(first: 1) { edges { node { number sta } } } }")
    page.run("(() => { const a = document.querySelector('#document textarea');"
             " const at = a.value.indexOf('sta ') + 3; a.setSelectionRange(at, at); })()")  # fmt: skip
    page.press(" ", code=32, modifiers=2)
    offered = page.until("[...document.querySelectorAll('.popup li b')].map((one) => one.textContent).join()")
    assert offered.split(",")[0].startswith("sta")
    assert "stage" in offered
    page.picture(pictures / "complete.png")
    page.run("[...document.querySelectorAll('.popup li')].find((one) => one.textContent.startsWith('stage'))"
             ".dispatchEvent(new MouseEvent('mousedown', {bubbles: true}))")  # fmt: skip
    assert "number stage }" in page.run("document.querySelector('#document textarea').value")

    page.press("F", code=70, modifiers=2 | 8)
    assert "\n      node {\n        number\n        stage\n      }\n" in page.run(
        "document.querySelector('#document textarea').value"
    )
    page.press("Enter", code=13, modifiers=2)
    assert '"stage": "RECEIVED"' in seen.answer()
    assert page.run("document.querySelector('#status').textContent").startswith("200 ")

    page.run("document.querySelector('#search').focus()")
    page.type("satisfaction")
    page.until("document.querySelector('#page').textContent.includes('满意度')")
    page.picture(pictures / "answer.png")

    seen.write("{ complaints { nobody } }")
    page.press("Enter", code=13, modifiers=2)
    page.until("document.querySelector('#errors').textContent.includes('nobody')")

    page.run("document.querySelector('#language').click()")
    assert page.run("document.querySelector('#run').textContent") == "Run"
    page.picture(pictures / "error.png")
    page.run("document.querySelector('#sign').click()")
    page.until("document.querySelector('#who').textContent === 'not signed in'")
    assert page.run("sessionStorage.getItem('anjuan.token')") is None
    stands = httpx.post(
        seen.one.url, json={"query": "{ me { roles } }"}, headers={"Authorization": f"Bearer {seen.token}"}, timeout=30
    )
    assert stands.status_code == 200, "a token that was pasted is not revoked"

    here = seen.one.url.removesuffix("/graphql") + "/"
    assert [url for url in page.requests if not url.startswith((here, "about:", "data:"))] == []
    assert [said for said in page.problems if "400" not in said] == []


@pytest.mark.timeout(120)
def test_a_decision_is_written_from_the_docs_and_a_subscription_is_followed(seen: Seen, tmp_path: Path) -> None:
    page = seen.page
    pictures = Path(os.environ.get("ANJUAN_TEST_PICTURES", tmp_path))
    seen.sign_in()
    for name in ("Mutation", "complaintApprovePlan"):
        found = f"[...document.querySelectorAll('#page .link')].find((one) => one.textContent === '{name}')"
        page.until(f"{found} !== undefined")
        page.run(f"{found}.click()")
    assert page.run("document.querySelector('#document textarea').value") == (
        "mutation ComplaintApprovePlan($commandId: UUID!, $id: UUID!) {\n"
        "  complaintApprovePlan(commandId: $commandId, id: $id) {\n"
        "    __typename\n"
        "    ... on ComplaintDecided {\n"
        "      complaintId\n      version\n      position\n      topics\n      repeated\n"
        "    }\n"
        "    ... on Refusal {\n      code\n      sentence\n      sentenceZh\n      field\n    }\n"
        "  }\n"
        "}\n"
    )
    variables = json.loads(page.run("document.querySelector('#variables textarea').value"))
    assert UUID(variables["commandId"])
    assert variables["id"] is None
    page.picture(pictures / "decision.png")

    seen.write("subscription Lag { viewLagChanged { views { view behind } } }")
    page.press("Enter", code=13, modifiers=2)
    page.until("document.querySelector('#answer').textContent.includes('\"view\"')")
    assert page.run("document.querySelector('#status').textContent").startswith("200 · 订阅中")
    page.picture(pictures / "subscription.png")
    page.run("document.querySelector('#stop').click()")
    page.until("document.querySelector('#stop').hidden")
    assert page.run("document.querySelector('#status').textContent") == "已停止"
    page.run("document.querySelector('#toggle-history').click()")
    assert "Lag" in page.run("document.querySelector('#history-list li').textContent")
    assert page.problems == []


@pytest.mark.timeout(120)
def test_what_stands_in_an_answer_is_text(seen: Seen) -> None:
    page = seen.page
    seen.sign_in()
    seen.write('{ complaint(number: "<img src=x onerror=alert(1)>") { number } } # <script>window.bad = 1</script>')
    page.press("Enter", code=13, modifiers=2)
    page.until("document.querySelector('#errors').textContent || document.querySelector('#answer').textContent")
    assert page.run("document.querySelectorAll('img:not([alt=\"\"]), #document script').length") == 0
    assert page.run("window.bad") is None
