"""The HTTP edge: `/graphql` for whoever has a token, `/livez` and `/readyz` for everybody.

    app = create_app(settings, house)     # a FastAPI application; run it with any ASGI server

What went wrong is said as JSON in GraphQL's own shape: `{"errors": [{"message", "extensions": {"code", …}}]}`. What is
a fault of ours is masked: the answer names a correlation id, the log has the rest, never what people wrote.
"""

from __future__ import annotations

import asyncio
import contextlib
import traceback
from collections.abc import AsyncGenerator, Callable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from uuid import uuid4

import msgspec
import orjson
import psycopg
import structlog
from fastapi import FastAPI, Request, Response
from graphql import GraphQLError, GraphQLSyntaxError, OperationType, get_operation_ast, parse
from strawberry.http.ides import get_graphql_ide_html
from strawberry.schema.exceptions import CannotGetOperationTypeError, InvalidOperationTypeError
from strawberry.types.graphql import OperationType as Kind

from api.access import Doorkeeper, Principal, Unauthenticated
from api.chinese import SENTENCES
from api.context import Context, Reach, in_thread, query_pool
from api.cost import OverBudget
from api.limits import Gate, without_suggestion
from api.plan import Planner
from api.refusal import as_error, refused_by_store
from api.schema import build
from api.settings import Environment, Settings
from domain.kernel import Refused
from domain.store.casebook import House
from migrations.runner import check
from migrations.script import MigrationError
from projections.tracking import lag
from projections.views import VIEWS

GRAPHQL_RESPONSE = "application/graphql-response+json"

_log: structlog.stdlib.BoundLogger = structlog.get_logger("anjuan.edge")


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


def create_app(
    settings: Settings,
    house: House,
    *,
    wake: Callable[[], None] = lambda: None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> FastAPI:
    """The application on a store that is open and stays so. `wake` is told after each command: a runner may listen.

    `clock` says the one moment of each request.
    """
    pool = query_pool(settings, house)
    reach = Reach(settings, house, pool, wake)
    edge = Edge(reach, clock)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        await pool.open(wait=True)
        try:
            yield
        finally:
            await pool.close()

    app = FastAPI(title="Anjuan", openapi_url=None, docs_url=None, redoc_url=None, lifespan=lifespan)
    app.state.planner = edge.planner
    app.add_api_route("/graphql", edge.graphql, methods=["GET", "POST"])
    app.add_api_route("/livez", edge.livez, methods=["GET"])
    app.add_api_route("/readyz", edge.readyz, methods=["GET"])
    return app


class Edge:
    """What the routes share."""

    def __init__(self, reach: Reach, clock: Callable[[], datetime]) -> None:
        self._reach = reach
        self._clock = clock
        self._settings = reach.settings
        self.planner = Planner() if reach.settings.plan else None
        self._schema = build(reach.settings, self.planner)
        self._gate = Gate(self._schema._schema, reach.settings)
        self._doorkeeper = Doorkeeper(reach.house, reach.pool)

    async def livez(self) -> Response:
        """The process runs."""
        return _json({"live": True})

    async def readyz(self) -> Response:
        """The database answers, has this version's schema, and how far the views are behind at most; 503 if not."""
        try:
            said = await in_thread(self._readiness)
        except Exception as problem:
            _log.warning("not ready", error=type(problem).__name__)
            said = {"ready": False, "database": "away"}
        return _json(said, status=200 if said["ready"] else 503)

    def _readiness(self) -> dict[str, Any]:
        try:
            check(self._reach.house.conninfo)
        except MigrationError:
            return {"ready": False, "database": "here", "schema": "other than this version's; run `anjuan migrate`"}
        worst: dict[str, dict[str, Any]] = {}
        for one in lag(self._reach.house, list(VIEWS.values())):
            known = worst.setdefault(one.view, {"behind": 0, "parked": 0, "followed": one.alive})
            known["behind"] = max(known["behind"], one.behind)
            known["parked"] += one.parked
        return {"ready": True, "database": "here", "schema": "this version's", "views": worst}

    async def graphql(self, request: Request) -> Response:
        """One GraphQL request: POST, or GET for a question."""
        correlation = uuid4().hex
        modern = GRAPHQL_RESPONSE in request.headers.get("accept", "")
        try:
            if self._wants_page(request):
                return Response(get_graphql_ide_html(graphql_ide="graphiql"), media_type="text/html")
            principal = await self._doorkeeper.principal(request.headers.get("authorization"))
            asked = await self._asked(request)
            said = await self._answer(request.method, asked, principal, correlation)
        except Unauthenticated as problem:
            refused = Unacceptable(401, "access.token", str(problem), WWW_Authenticate='Bearer realm="anjuan"')
            return self._unacceptable(refused, correlation)
        except Unacceptable as refused:
            return self._unacceptable(refused, correlation)
        except Exception as problem:
            error = self._presentable(_wrapped(problem), correlation)
            status = 500 if error["extensions"]["code"] == "internal" else 503
            return _json({"errors": [error]}, status, correlation)
        status = 400 if modern and "data" not in said else 200
        media_type = GRAPHQL_RESPONSE if modern else "application/json"
        return _json(said, status, correlation, media_type=media_type)

    def _wants_page(self, request: Request) -> bool:
        return (
            self._settings.environment == Environment.DEVELOPMENT
            and request.method == "GET"
            and "query" not in request.query_params
            and "text/html" in request.headers.get("accept", "")
        )

    async def _asked(self, request: Request) -> Asked:
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
        body = await self._body(request)
        try:
            return _request(orjson.loads(body))
        except orjson.JSONDecodeError:
            raise Unacceptable(400, "request.body", "The body is not JSON in UTF-8.") from None

    async def _body(self, request: Request) -> bytes:
        """The body, read no further than the limit."""
        most = self._settings.body_bytes_max
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

    async def _answer(self, method: str, asked: Asked, principal: Principal, correlation: str) -> dict[str, Any]:
        try:
            self._gate.admit(asked.query, asked.operation_name, asked.variables, principal)
        except OverBudget as refused:
            raise Unacceptable(429, refused.code, refused.sentence, Retry_After=str(refused.seconds)) from None
        except Refused as refused:
            return {"errors": [as_error(refused).formatted]}
        context = Context(self._reach, principal, self._clock(), correlation)
        allowed = {Kind.QUERY} if method == "GET" else {Kind.QUERY, Kind.MUTATION}
        # commands are never cut short: what was sent to the database must be known
        limit = None if _commands(asked, self._settings.tokens_max) else self._settings.request_seconds
        try:
            async with asyncio.timeout(limit):
                result = await self._schema.execute(
                    asked.query,
                    variable_values=asked.variables,
                    context_value=context,
                    operation_name=asked.operation_name,
                    allowed_operation_types=allowed,
                )
        except InvalidOperationTypeError:
            raise Unacceptable(405, "request.method", "Commands are sent by POST.", Allow="POST") from None
        except CannotGetOperationTypeError:
            raise Unacceptable(400, "request.operation", "Name one of the operations in the document.") from None
        except TimeoutError:
            raise Unacceptable(
                504, "request.timeout", "The question took too long; ask for less, page by page."
            ) from None
        errors = [self._presentable(error, correlation) for error in result.errors or ()]
        if not self._gate.explores(principal):
            errors = [{**error, "message": without_suggestion(error["message"])} for error in errors]
        ran = result.data is not None or any(error.path for error in result.errors or ())
        return ({"errors": errors} if errors else {}) | ({"data": result.data} if ran else {})

    def _presentable(self, error: GraphQLError, correlation: str) -> dict[str, Any]:
        """An error as it may leave: a refused question or a wrong document as it is, a fault of ours masked."""
        original = error.original_error
        while isinstance(original, GraphQLError) and original.original_error is not None:
            original = original.original_error
        if original is None or isinstance(original, GraphQLError):
            return dict(error.formatted)
        refused = original if isinstance(original, Refused) else _refused_question(original)
        if refused is not None:
            said = as_error(refused)
        else:
            self._log_fault(original, correlation, error.path)
            said = GraphQLError(
                f"Something went wrong on our side; it is logged under {correlation}.",
                extensions={"code": "internal", "correlation": correlation},
            )
        place = {"path": error.path} if error.path else {}
        places = {"locations": [loc.formatted for loc in error.locations]} if error.locations else {}
        return {"message": said.message, **places, **place, "extensions": said.extensions}

    def _log_fault(self, problem: Exception, correlation: str, path: Sequence[str | int] | None) -> None:
        """Where it happened and what kind it is; the message may hold what people wrote, so only developers see it."""
        frames = traceback.extract_tb(problem.__traceback__)
        where = [f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in frames[-6:]]
        more = {"message": str(problem)} if self._settings.environment == Environment.DEVELOPMENT else {}
        _log.error("fault", error=type(problem).__name__, where=where, path=path, correlation=correlation, **more)

    def _unacceptable(self, refused: Unacceptable, correlation: str) -> Response:
        extensions = {"code": refused.code, "sentenceZh": SENTENCES[refused.code]}
        said = {"errors": [{"message": str(refused), "extensions": extensions}]}
        return _json(said, refused.status, correlation, headers=refused.headers)


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


def _commands(asked: Asked, tokens_max: int) -> bool:
    """Whether the request is a mutation."""
    document = _operations(asked.query, tokens_max)
    operation = None if document is None else get_operation_ast(document, asked.operation_name)
    return operation is not None and operation.operation == OperationType.MUTATION


def _refused_question(problem: Exception) -> Refused | None:
    """A question the database could not answer in time or at all, for now."""
    if isinstance(problem, psycopg.errors.QueryCanceled):
        return Refused("request.timeout", "The question took too long; ask for less, page by page.")
    if refused_by_store(problem) is not None:
        return Refused("store.away", "The database cannot be reached for now; ask again in a moment.")
    return None


def _wrapped(problem: Exception) -> GraphQLError:
    return GraphQLError("", original_error=problem)


def _json(
    said: Any,
    status: int = 200,
    correlation: str | None = None,
    *,
    media_type: str = "application/json",
    headers: dict[str, str] | None = None,
) -> Response:
    marked = {"X-Correlation-Id": correlation} if correlation is not None else {}
    return Response(
        orjson.dumps(said),
        status_code=status,
        media_type=f"{media_type}; charset=utf-8",
        headers={**(headers or {}), **marked, "Cache-Control": "no-store"},
    )
