"""Answers of the edge that no GraphQL execution made: JSON, refusals in GraphQL's own shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from starlette.responses import Response

from api.chinese import SENTENCES

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
    """A refusal in GraphQL's shape; its Chinese sentence is the catalogue's."""
    extensions = {"code": code, "sentenceZh": SENTENCES[code]}
    return said({"errors": [{"message": sentence, "extensions": extensions}]}, status, headers=headers)
