"""Answers requests to `/graphql`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Any

import orjson
from fastapi import Request, Response
from strawberry.schema.exceptions import CannotGetOperationTypeError, InvalidOperationTypeError
from strawberry.types.graphql import OperationType as Kind

from api.access.doorkeeper import Doorkeeper, Unauthenticated
from api.access.oidc import issuer_of
from api.access.proof import Proof, Refuted
from api.access.read_log import Asking, ReadLogAway, purpose_of
from api.access.read_log import Road as LogRoad
from api.access.roles import Principal
from api.access.throttle import client_address
from api.context import Context, Reach
from api.cost import OverBudget
from api.edge.admission import Admission, Busy
from api.edge.answers import Answers
from api.edge.asked import Asked, Unacceptable, asked_by, commands
from api.edge.documents import Documents, trusted
from api.edge.explorer import page
from api.edge.fault import presentable, wrapped
from api.edge.said import JSON, refused, said
from api.limits import Gate, without_suggestion
from api.live.live import Live, wants_events
from api.plan.planner import Planner
from api.refusal import as_error
from api.schema import build
from api.settings import Environment
from api.watch.account import Road, account
from domain.kernel import Refused

GRAPHQL_RESPONSE = "application/graphql-response+json"
DOCUMENT = "request.document"
"""What the log calls a mistake in a document that GraphQL itself found."""


class Edge:
    """What the routes share."""

    def __init__(self, reach: Reach, clock: Callable[[], datetime], admission: Admission) -> None:
        self._reach = reach
        self._admission = admission
        self._clock = clock
        self._settings = reach.settings
        self._develops = reach.settings.environment == Environment.DEVELOPMENT
        self.planner = Planner() if reach.settings.plan else None
        self._schema = build(reach.settings, self.planner)
        self._gate = Gate(self._schema._schema, reach.settings)
        manifest = reach.settings.documents
        self.documents = Documents() if manifest is None else trusted(manifest, self._schema._schema, self._gate)
        admission.is_command = self.documents.may_command
        self.answers = Answers(reach.settings.answers_bytes if self.planner else 0, reach.settings.compress_bytes_min)
        self.doorkeeper = Doorkeeper(reach.house, reach.pool, reach.settings, issuer_of(reach.settings))
        self.live = Live(reach, self._schema, self._gate, self.documents, self.doorkeeper, clock, admission.streams)

    async def graphql(self, request: Request) -> Response:
        """One GraphQL request: POST, or GET for a question."""
        correlation = account().correlation
        modern = GRAPHQL_RESPONSE in request.headers.get("accept", "")
        try:
            if self._wants_page(request):
                return page()
            if wants_events(request):
                return await self.live.events(request)
            return await self._let_in(request, correlation, modern=modern)
        except Unauthenticated as problem:
            return refused(problem.status, code=problem.code, sentence=str(problem), headers=problem.headers)
        except Unacceptable as problem:
            return refused(problem.status, code=problem.code, sentence=str(problem), headers=problem.headers)
        except Exception as problem:
            error = presentable(wrapped(problem), correlation, at_length=self._develops)
            account().refused(error["extensions"]["code"])
            return said({"errors": [error]}, 500 if error["extensions"]["code"] == "internal" else 503)

    async def _let_in(self, request: Request, correlation: str, *, modern: bool) -> Response:
        """Answer whoever holds the token, looked up first, or remembered and proven together with the question."""
        authorization = request.headers.get("authorization")
        remembered = self.doorkeeper.remembered(authorization)
        raw: Asked | None = None
        if remembered is not None:
            proof = Proof(self.doorkeeper, remembered)
            with suppress(Refuted):
                try:
                    raw = await asked_by(request, self._settings.body_bytes_max)
                    answer = await self._answer(request, raw, proof.principal, correlation, proof, modern=modern)
                except Unacceptable:
                    await proof.must_hold()
                    raise
                await proof.must_hold()
                return answer
        # nothing was done or said for a token that no longer opens what it did
        account().institution = account().staff = None
        address = client_address(request, self._settings.trusted_proxies)
        principal = await self.doorkeeper.principal(authorization, address)
        raw = raw or await asked_by(request, self._settings.body_bytes_max)
        return await self._answer(request, raw, principal, correlation, modern=modern)

    def _wants_page(self, request: Request) -> bool:
        return (
            self._develops
            and request.method == "GET"
            and "query" not in request.query_params
            and "text/html" in request.headers.get("accept", "")
        )

    async def _answer(
        self,
        request: Request,
        raw: Asked,
        principal: Principal,
        correlation: str,
        proof: Proof | None = None,
        *,
        modern: bool,
    ) -> Response:
        account().institution, account().staff = principal.institution, principal.staff_id
        asked = self.documents.chosen(raw, principal)
        try:
            self._gate.admit(asked.query, asked.operation_name, asked.variables, principal)
            purpose = purpose_of(request.headers.get("x-purpose"), asked.extensions)
        except OverBudget as over:
            raise Unacceptable(429, over.code, over.sentence, Retry_After=str(over.seconds)) from None
        except Refused as problem:
            account().refused(problem.code)
            return _said({"errors": [as_error(problem).formatted]}, modern=modern)
        # commands are never cut short: what was sent to the database must be known
        command = commands(asked, self._settings.tokens_max)
        account().asks(asked.operation_name, command=command)
        road = LogRoad.COMMAND if command else LogRoad.QUESTION
        asking = Asking.of(asked.query, asked.operation_name, road, purpose)
        context = Context(self._reach, principal, self._clock(), correlation, asking=asking, proof=proof)
        if not command:
            try:
                await self._admission.known_to_ask()
            except Busy as busy:
                raise Unacceptable(503, busy.code, busy.sentence, Retry_After=str(busy.seconds)) from None
        if command:
            done = await self._executed(request.method, asked, context, command=True)
            # it may hand out a token, which is never compressed beside what somebody else wrote (`api.edge.coding`)
            return _said(done, modern=modern, transform=False)
        return await self._asked(request, asked, context, modern=modern)

    async def _asked(self, request: Request, asked: Asked, context: Context, *, modern: bool) -> Response:
        """A question, from what is kept if it may be."""
        # what a broken glass shows is nobody else's, nor what others are shown theirs
        kind = GRAPHQL_RESPONSE if modern else JSON
        question = None if context.glasses else self.answers.question(asked, context.principal, kind)
        if question is None:
            return _said(await self._executed(request.method, asked, context), modern=modern)
        stands = await self.answers.stand(context)
        kept = self.answers.held(question, stands)
        if kept is not None:
            account().road = Road.CACHED
        else:
            answer = await self._executed(request.method, asked, context)
            kept = self.answers.keep(question, stands, context.made_of, lambda: orjson.dumps(answer))
            if kept is None:
                return _said(answer, modern=modern)
        return self.answers.reply(question, kept, request.headers)

    async def _executed(self, method: str, asked: Asked, context: Context, *, command: bool = False) -> dict[str, Any]:
        limit = None if command else self._settings.request_seconds
        try:
            async with asyncio.timeout(limit):
                result = await self._schema.execute(
                    asked.query,
                    variable_values=asked.variables,
                    context_value=context,
                    operation_name=asked.operation_name,
                    allowed_operation_types={Kind.QUERY} if method == "GET" else {Kind.QUERY, Kind.MUTATION},
                )
        except InvalidOperationTypeError as problem:
            if problem.operation_type is Kind.SUBSCRIPTION:
                sentence = "Subscriptions are told as events: send Accept: text/event-stream, or come by WebSocket."
                raise Unacceptable(406, "live.accept", sentence) from None
            raise Unacceptable(405, "request.method", "Commands are sent by POST.", Allow="POST") from None
        except CannotGetOperationTypeError:
            raise Unacceptable(400, "request.operation", "Name one of the operations in the document.") from None
        except TimeoutError:
            raise Unacceptable(
                504, "request.timeout", "The question took too long; ask for less, page by page."
            ) from None
        if not command and account().road is None:
            account().road = Road.RESOLVED
        try:
            await context.log_reads()
        except ReadLogAway as away:
            raise Unacceptable(503, away.code, away.sentence, Retry_After="1") from None
        errors = [presentable(error, context.correlation, at_length=self._develops) for error in result.errors or ()]
        if not self._gate.explores(context.principal):
            errors = [{**error, "message": without_suggestion(error["message"])} for error in errors]
        if errors:
            account().refused(errors[0].get("extensions", {}).get("code", DOCUMENT))
        ran = result.data is not None or any(error.path for error in result.errors or ())
        return ({"errors": errors} if errors else {}) | ({"data": result.data} if ran else {})


def _said(answer: dict[str, Any], *, modern: bool, transform: bool = True) -> Response:
    """An answer of an execution, or of one that was refused; nobody keeps it, nor compresses it unless `transform`."""
    status = 400 if modern and "data" not in answer else 200
    kept = {} if transform else {"Cache-Control": "no-store, no-transform"}
    return said(answer, status, media_type=GRAPHQL_RESPONSE if modern else JSON, headers=kept)
