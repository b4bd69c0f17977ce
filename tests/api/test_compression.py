"""Content coding: answers in gzip for whoever takes it, requests unpacked within their limit."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any
from uuid import uuid4

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.app import create_app
from api.edge.coding import GZIP, IDENTITY, NotGzip, TooLarge, Unpacker, coding_for, packed
from api.edge.shell import Shell
from domain.kernel import Role
from domain.store.casebook import Casebook, House
from tests.api.conftest import SETTINGS, Desk, Edge, Office, open_office, running

LONG = (
    "{ " + " ".join(f"a{n}: institution {{ b: code c: name code name group zone calendar }}" for n in range(9)) + " }"
)
"""Its answer is longer than the threshold, and is resolved."""


@pytest.fixture
def desk(office: Office) -> Desk:
    return office[Role.AUDITOR]


def sent(desk: Desk, content: bytes, method: str = "POST", **headers: str) -> httpx.Response:
    given = {"Content-Type": "application/json", "Authorization": f"Bearer {desk.token}"}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    return desk.edge.send(method, "/graphql", content=content, headers=given)


def body(query: str = LONG) -> bytes:
    return json.dumps({"query": query}).encode()


# answers


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        (None, IDENTITY), ("", IDENTITY), ("identity", IDENTITY), ("gzip", GZIP), ("GZip", GZIP), ("x-gzip", GZIP),
        ("gzip, deflate, br, zstd", GZIP), ("br", IDENTITY), ("br;q=1.0, gzip;q=0.001", GZIP), ("*", GZIP),
        ("*;q=0", IDENTITY), ("gzip;q=0", IDENTITY), ("gzip;q=0, *", IDENTITY), ("gzip;q=0.000", IDENTITY),
        ("*;q=0, gzip", GZIP), ("identity;q=0", IDENTITY), ("gzip;q=0.5, identity", IDENTITY),
        ("gzip;q=0.5, identity;q=0.5", GZIP), ("gzip ; q=1", GZIP), ("gzip;q=2", IDENTITY), ("gzip;q=x", IDENTITY),
        ("gzip;q=", IDENTITY), ("gzip;q=-1", IDENTITY), ("gzip;q=nan", IDENTITY), (",,gzip,,", GZIP),
        ("gzipped", IDENTITY), ("gzip;level=9", GZIP),
    ],
)  # fmt: skip
def test_the_coding_is_what_the_client_accepts(accepted: str | None, coding: str) -> None:
    assert coding_for(accepted) == coding


def test_a_long_answer_is_packed_for_whoever_accepts_it(desk: Desk) -> None:
    plain = sent(desk, body(), Accept_Encoding="identity")
    assert "content-encoding" not in plain.headers
    short = sent(desk, body(), Accept_Encoding="gzip")
    assert short.headers["content-encoding"] == "gzip"
    assert short.content == plain.content
    assert int(short.headers["content-length"]) < int(plain.headers["content-length"]) // 2
    assert plain.headers["vary"] == short.headers["vary"] == "Accept-Encoding"


def test_a_short_answer_is_not_packed(desk: Desk) -> None:
    answer = sent(desk, body("{ me { roles } }"), Accept_Encoding="gzip")
    assert "content-encoding" not in answer.headers
    assert "vary" not in answer.headers


def test_the_threshold_is_a_setting_and_none_is_never(house: House, casebook: Casebook) -> None:
    for least, packs in ((0, False), (1, True), (10**9, False)):
        with running(create_app(SETTINGS.model_copy(update={"compress_bytes_min": least}), house)) as edge:
            office = open_office(edge, house.casebook(casebook.institution))
            answer = sent(office[Role.AUDITOR], body(), Accept_Encoding="gzip")
            assert ("content-encoding" in answer.headers) is packs


def test_what_refuses_is_packed_like_what_answers(desk: Desk) -> None:
    """Errors too, and what hands something out that must not be packed says so."""
    wrong = "{ " + " ".join(f"nobody{n}" for n in range(9)) + " }"
    answer = sent(desk, body(wrong), Accept_Encoding="gzip")
    assert len(answer.json()["errors"]) == 9
    assert answer.headers["content-encoding"] == "gzip"


@given(st.binary(max_size=5000))
def test_what_is_packed_is_what_was_there(content: bytes) -> None:
    assert gzip.decompress(packed(content)) == content
    assert packed(content) == packed(content)


# requests


@pytest.mark.parametrize("coding", ["gzip", "GZIP", " x-gzip "])
def test_a_packed_request_is_unpacked(desk: Desk, coding: str) -> None:
    answer = sent(desk, gzip.compress(body("{ me { roles } }")), Content_Encoding=coding)
    assert answer.json() == {"data": {"me": {"roles": ["AUDITOR"]}}}


@pytest.mark.parametrize("coding", ["deflate", "br", "zstd", "compress", "gzip, gzip", "gzip, identity", "", "utf-8"])
def test_another_coding_is_refused_and_says_which_are_taken(desk: Desk, coding: str) -> None:
    answer = sent(desk, zlib.compress(body()), Content_Encoding=coding)
    assert answer.status_code == 415
    assert answer.json()["errors"][0]["extensions"]["code"] == "request.encoding"
    assert answer.headers["accept-encoding"] == "gzip, identity"


WHOLE = gzip.compress(body("{ me { roles } }"))


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", WHOLE[:-1], WHOLE[:20], WHOLE + b"x", WHOLE + WHOLE, WHOLE[:-8] + bytes(8), zlib.compress(body()),
     b"\x1f\x8b" + bytes(30)],
)  # fmt: skip
def test_what_is_not_one_whole_packing_is_no_request(desk: Desk, content: bytes) -> None:
    answer = sent(desk, content, Content_Encoding="gzip")
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["extensions"]["code"] == "request.body"


def test_a_bomb_is_refused_when_it_has_unpacked_the_limit(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gigabyte of spaces in one megabyte, then the same packed twice: nobody holds more than the limit."""
    bomb = gzip.compress(b" " * (1 << 29), compresslevel=9)
    assert len(bomb) < SETTINGS.body_bytes_max
    held: list[int] = []
    feed = Unpacker.feed

    def watched(self: Unpacker, chunk: bytes) -> None:
        try:
            feed(self, chunk)
        finally:
            held.append(len(self._body))

    monkeypatch.setattr(Unpacker, "feed", watched)
    answer = sent(desk, bomb, Content_Encoding="gzip")
    assert answer.status_code == 413
    assert answer.json()["errors"][0]["extensions"]["code"] == "request.too_large"
    assert 0 < max(held) <= SETTINGS.body_bytes_max + 1
    assert sent(desk, gzip.compress(bomb), Content_Encoding="gzip").status_code == 400, "only one layer is taken off"


def test_the_limit_is_of_the_bytes_that_were_unpacked(desk: Desk) -> None:
    most = SETTINGS.body_bytes_max
    empty = body("{ me { roles } }")
    full = empty + b" " * (most - len(empty))
    assert sent(desk, gzip.compress(full), Content_Encoding="gzip").status_code == 200
    assert sent(desk, gzip.compress(full + b" "), Content_Encoding="gzip").status_code == 413


@given(st.binary(max_size=3000), st.integers(1, 3000), st.lists(st.integers(1, 200), min_size=1, max_size=20))
def test_however_it_arrives_it_is_unpacked_or_refused(content: bytes, most: int, sizes: list[int]) -> None:
    whole = gzip.compress(content)
    chunks: list[bytes] = []
    for n in range(len(whole)):
        if not whole:
            break
        size = sizes[n % len(sizes)]
        chunks.append(whole[:size])
        whole = whole[size:]
    unpacker = Unpacker(most)

    def unpack() -> bytes:
        for chunk in chunks:
            unpacker.feed(chunk)
        return unpacker.whole()

    if len(content) > most:
        with pytest.raises(TooLarge):
            unpack()
    else:
        assert unpack() == content
    for cut in (chunks[:-1], [*chunks, b"x"]):
        again = Unpacker(10_000)
        with pytest.raises(NotGzip):  # noqa: PT012 - whichever of the two notices
            for chunk in cut:
                again.feed(chunk)
            again.whole()


def test_what_a_command_answers_is_not_packed(office: Office) -> None:
    """It may hand out a token, which shares no compressed answer with what somebody else wrote."""
    query = "mutation ($id: UUID!, $c: UUID!) { " + " ".join(
        f"a{n}: complaintApprovePlan(commandId: $c, id: $id) {{ ... on Refusal {{ code sentence sentenceZh }} }}"
        for n in range(9)
    )
    content = json.dumps({"query": query + " }", "variables": {"id": str(uuid4()), "c": str(uuid4())}}).encode()
    answer = sent(office[Role.DEAN], content, Accept_Encoding="gzip")
    assert len(answer.content) > SETTINGS.compress_bytes_min
    assert answer.json()["data"]
    assert answer.headers["cache-control"] == "no-store, no-transform"
    assert "content-encoding" not in answer.headers


def through(edge: Edge, *messages: Any) -> list[Any]:
    """What leaves the shell of these messages of an application, for a client that takes gzip."""
    got: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    async def send(message: Any) -> None:
        got.append(message)

    async def go() -> None:
        scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"accept-encoding", b"gzip")]}
        await Shell(app, SETTINGS)(scope, lambda: None, send)  # pyright: ignore[reportArgumentType]

    edge.portal.call(go)
    return got


def test_a_stream_is_not_packed(edge: Edge) -> None:
    """What comes piece by piece leaves piece by piece."""
    start = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]}
    piece = {"type": "http.response.body", "body": b"x" * 5000, "more_body": True}
    end = {"type": "http.response.body", "body": b"", "more_body": False}
    got = through(edge, start, piece, piece, piece, end)
    assert [len(m.get("body", b"")) for m in got[1:]] == [5000, 5000, 5000, 0]
    names = {name for name, _ in got[0]["headers"]}
    assert b"content-encoding" not in names
    assert b"x-correlation-id" in names


@pytest.mark.parametrize(
    ("headers", "packs"),
    [
        ([], True),
        ([(b"cache-control", b"no-store")], True),
        ([(b"cache-control", b"no-store, no-transform")], False),
        ([(b"content-encoding", b"br")], False),
    ],
)
def test_what_may_not_be_transformed_is_not(edge: Edge, headers: list[tuple[bytes, bytes]], packs: bool) -> None:
    """An answer that hands out a token says so; one that is packed already is not packed again."""
    start = {"type": "http.response.start", "status": 200, "headers": headers}
    got = through(edge, start, {"type": "http.response.body", "body": b"x" * 5000})
    assert (len(got[1]["body"]) < 5000) is packs
