"""What a GraphQL request over HTTP asks: by POST as JSON, or by GET for a question."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import msgspec
import orjson
from fastapi import Request
from graphql import DocumentNode, GraphQLSyntaxError, OperationType, get_operation_ast, parse

from api.edge.coding import NotGzip, Plain, TooLarge, Unpacker


class Asked(msgspec.Struct, kw_only=True):
    """The body of a GraphQL request; other members are not known. The document is said by text or by id."""

    query: str = ""
    document_id: str | None = msgspec.field(default=None, name="documentId")
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
        parts: dict[str, Any] = {n: said[n] for n in ("query", "documentId", "operationName") if n in said}
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
    """The body, unpacked if it is packed, and read no further than the limit."""
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("gzip", "x-gzip", "identity"):
        raise Unacceptable(
            415, "request.encoding", "Send the body as it is, or in gzip.", Accept_Encoding="gzip, identity"
        )
    body = Plain(most) if coding == "identity" else Unpacker(most)
    try:
        async for chunk in request.stream():
            body.feed(chunk)
        return body.whole()
    except TooLarge:
        raise Unacceptable(
            413,
            "request.too_large",
            f"The request has more than {most} bytes; keep texts short and send files as attachments.",
        ) from None
    except NotGzip:
        raise Unacceptable(400, "request.body", "The body is not in gzip, as its Content-Encoding says.") from None


def _request(parts: Any) -> Asked:
    try:
        asked = msgspec.convert(parts, Asked)
    except msgspec.ValidationError as problem:
        raise Unacceptable(400, "request.body", f"This is no GraphQL request: {problem}.") from None
    # an operation without a name cannot be named, so the empty name is none
    return asked if asked.operation_name else msgspec.structs.replace(asked, operation_name=None)


@lru_cache(maxsize=500)
def _document(query: str, tokens_max: int) -> DocumentNode | None:
    try:
        return parse(query, max_tokens=tokens_max)
    except GraphQLSyntaxError:
        return None  # executing it says what is wrong


def commands(asked: Asked, tokens_max: int) -> bool:
    """Whether the request is a mutation; raises Unacceptable unless it is clear which operation it means."""
    document = _document(asked.query, tokens_max)
    operation = None if document is None else get_operation_ast(document, asked.operation_name)
    if document is not None and operation is None:
        raise Unacceptable(400, "request.operation", "Name one of the operations in the document.")
    return operation is not None and operation.operation == OperationType.MUTATION
