"""What a GraphQL request over HTTP asks: by POST as JSON, or by GET for a question."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import msgspec
import orjson
from fastapi import Request
from graphql import GraphQLSyntaxError, OperationType, get_operation_ast, parse


class Asked(msgspec.Struct, kw_only=True):
    """The body of a GraphQL request; other members are not known."""

    query: str
    variables: dict[str, Any] | None = None
    operation_name: str | None = msgspec.field(default=None, name="operationName")
    extensions: dict[str, Any] | None = None


class Unacceptable(Exception):
    """A request that is not executed: status, code and a sentence for whoever sent it."""

    def __init__(self, status: int, code: str, sentence: str, **headers: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.code = code
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


async def asked_by(request: Request, bytes_max: int) -> Asked:
    """What a request asks, of at most so many bytes; raises Unacceptable."""
    if request.method == "GET":
        said = request.query_params
        parts: dict[str, Any] = {name: said[name] for name in ("query", "operationName") if name in said}
        try:
            parts |= {n: orjson.loads(said[n]) for n in ("variables", "extensions") if n in said}
        except orjson.JSONDecodeError:
            raise Unacceptable(400, "request.body", "`variables` and `extensions` are JSON.") from None
        return _request(parts)
    kind, _, parameters = request.headers.get("content-type", "").lower().partition(";")
    charset = parameters.partition("charset=")[2].strip().strip('"')
    if kind.strip() != "application/json" or charset not in ("", "utf-8", "utf8"):
        raise Unacceptable(415, "request.content_type", "Send application/json in UTF-8.")
    body = await _body(request, bytes_max)
    try:
        return _request(orjson.loads(body))
    except orjson.JSONDecodeError:
        raise Unacceptable(400, "request.body", "The body is not JSON in UTF-8.") from None


async def _body(request: Request, most: int) -> bytes:
    """The body, read no further than the limit."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise Unacceptable(
                413,
                "request.too_large",
                f"The request has more than {most} bytes; keep texts short and send files as attachments.",
            )
    return bytes(body)


def _request(parts: Any) -> Asked:
    try:
        return msgspec.convert(parts, Asked)
    except msgspec.ValidationError as problem:
        raise Unacceptable(400, "request.body", f"This is no GraphQL request: {problem}.") from None


@lru_cache(maxsize=500)
def _operations(query: str, tokens_max: int) -> Any:
    try:
        return parse(query, max_tokens=tokens_max)
    except GraphQLSyntaxError:
        return None  # executing it says what is wrong


def commands(asked: Asked, tokens_max: int) -> bool:
    """Whether the request is a mutation."""
    document = _operations(asked.query, tokens_max)
    operation = None if document is None else get_operation_ast(document, asked.operation_name)
    return operation is not None and operation.operation == OperationType.MUTATION
