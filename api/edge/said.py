"""Answers of the edge that no GraphQL execution made: JSON, refusals in GraphQL's own shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from api.chinese.sentences import SENTENCES
from api.watch.account import account

JSON = "application/json"


def said(
    content: Any, status: int = 200, *, media_type: str = JSON, headers: Mapping[str, str] | None = None
) -> Response:
    """An answer that nobody keeps; no body for None."""
    return Response(
        None if content is None else orjson.dumps(content),
        status_code=status,
        media_type=None if content is None else f"{media_type}; charset=utf-8",
        headers={"Cache-Control": "no-store", **(headers or {})},
    )


def refused(status: int, code: str, sentence: str, *, headers: Mapping[str, str] | None = None) -> Response:
    """A refusal in GraphQL's shape; its Chinese sentence is the catalogue's. The request's account says its code."""
    account().refused(code)
    extensions = {"code": code, "sentenceZh": SENTENCES[code]}
    return said({"errors": [{"message": sentence, "extensions": extensions}]}, status, headers=headers)


PLACES = {
    "graphql": "/graphql",
    "alive": "/livez",
    "ready": "/readyz",
    "metrics": "/metrics",
}
_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Anjuan 案卷</title>
<h1>Anjuan 案卷</h1>
<p>GraphQL is at <a href="/graphql">/graphql</a>, for whoever has a token; README says how to get one.
Whether the service runs is at <a href="/livez">/livez</a> and <a href="/readyz">/readyz</a>.</p>
</html>
"""


async def root(request: Request) -> Response:
    """`/`: where things are, for whoever opens the address in a browser or tries it with curl."""
    if "text/html" in request.headers.get("accept", ""):
        return Response(_PAGE, media_type="text/html; charset=utf-8", headers={"Cache-Control": "no-store"})
    return said({"service": "anjuan", **PLACES})


async def not_served(_: Request, problem: Exception) -> Response:
    """What is said of a path nobody serves, and of a method a path does not know."""
    assert isinstance(problem, HTTPException)
    if problem.status_code == 405:
        sentence = "This path is not asked by this method; see Allow."
        return refused(405, code="request.method", sentence=sentence, headers=problem.headers)
    return refused(404, code="request.path", sentence="There is nothing here; GraphQL is at /graphql.")
