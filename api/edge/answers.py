"""Answers kept for as long as the views they were made of stand still, and the entity tags that say so.

An answer of the planner is a function of the document, the operation, the variables, what the principal may see, and
the views. So under a key of the first four it is exact until a view it read moves: every hit first reads how the views
stand, by one small statement, and compares. Nothing is ever invalidated, and nothing expires.

How the views stand is read *before* an answer is made. If a view moves in between, the answer is newer than its key
says; then nobody is ever served it again, since views never stand again as they stood before.

What a plan did not make, what depends on the moment of the request and what names personal columns is not kept and is
`no-store` (`api.plan.lasting`). A client that says `If-None-Match` is told 304, by POST as well: there is a question in
the body, not a change.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import orjson
from starlette.datastructures import Headers
from starlette.responses import Response

from api.access.roles import Principal
from api.context import Context
from api.edge.asked import Asked
from api.edge.coding import GZIP, coding_for, packed
from api.edge.shell import packable
from api.plan import road
from api.plan.wire import bound
from projections.tracking import STANDING
from projections.views import VIEWS

OVERHEAD = 600
"""Bytes an answer takes beside its body: key, tag, how the views stood."""
SHARE = 8
"""No answer takes more than this part of the memory for all."""
DOCUMENTS_KEPT = 1000
TRIED_AFTER = 50
"""After an answer that could not be kept, how the views stand is not asked for so many requests of its document."""

_STANDING = STANDING.replace("%s", "$1", 1).replace("%s", "$2", 1).encode()
_TAG = re.compile(r'(?:W/)?"([^"]*)"')


class Kept:
    """One answer: its body, and in gzip once somebody took it so."""

    def __init__(self, tag: str, body: bytes, stood: Mapping[str, str]) -> None:
        self.tag = tag
        self.body = body
        self.stood = stood
        self.packed: bytes | None = None

    @property
    def size(self) -> int:
        """The bytes it takes."""
        return OVERHEAD + len(self.body) + len(self.packed or b"")


class Question:
    """What was asked, by whom: the key of its answer, and of its document with these posts."""

    def __init__(self, asked: Asked, who: Principal, media_type: str) -> None:
        scope = who.institution, sorted(who.roles), sorted(who.scopes), media_type
        document = orjson.dumps([asked.query, asked.operation_name, scope])
        self.document = hashlib.sha256(document).digest()
        self.media_type = media_type
        variables = orjson.dumps(asked.variables or {}, option=orjson.OPT_SORT_KEYS)
        self.key = hashlib.sha256(self.document + variables).digest()


class Answers:
    """The answers one process keeps, those last used, in so many bytes."""

    def __init__(self, bytes_max: int, packs_from: int) -> None:
        self._most = bytes_max
        self._packs_from = packs_from
        self._kept: OrderedDict[bytes, Kept] = OrderedDict()
        self._passing: OrderedDict[bytes, int] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def question(self, asked: Asked, who: Principal, media_type: str) -> Question | None:
        """What is asked, unless nothing is kept, or answers to this document passed at once the last time."""
        if not self._most:
            return None
        try:
            question = Question(asked, who, media_type)
        except orjson.JSONEncodeError:  # nested deeper than can be written, so nothing will be answered
            return None
        left = self._passing.get(question.document, 0)
        if left:
            self._passing[question.document] = left - 1
            return None
        return question

    async def stand(self, context: Context) -> Mapping[str, str]:
        """How the views of the principal's institution stand. Raises OperationalError when that cannot be told."""
        try:
            (found,) = await road.answers(context, [bound(_STANDING, [context.institution, list(VIEWS)])])
        except road.Unanswered as unanswered:
            raise unanswered.problem from None
        return {str(view, "utf-8"): str(version, "ascii") for view, version in found if view and version}

    def held(self, question: Question, stands: Mapping[str, str]) -> Kept | None:
        """The answer, if its views still stand as they did."""
        kept = self._kept.get(question.key)
        if kept is None or any(stands.get(view) != version for view, version in kept.stood.items()):
            return None
        self._kept.move_to_end(question.key)
        return kept

    def keep(
        self, question: Question, stood: Mapping[str, str], made_of: frozenset[str] | None, body: Callable[[], bytes]
    ) -> Kept | None:
        """Keep an answer made of these views since they stood so; None when it is of the moment."""
        if made_of is None or not made_of <= stood.keys():
            self._passing[question.document] = TRIED_AFTER
            if len(self._passing) > DOCUMENTS_KEPT:
                self._passing.popitem(last=False)
            return None
        part = {view: stood[view] for view in sorted(made_of)}
        made = orjson.dumps([build(), question.key.hex(), part])
        tag = base64.urlsafe_b64encode(hashlib.sha256(made).digest()[:18]).decode()
        kept = Kept(tag, body(), part)
        self._forget(question.key)
        if kept.size * SHARE <= self._most:
            self._kept[question.key] = kept
            self.bytes += kept.size
            self._shrink()
        return kept

    def reply(self, question: Question, kept: Kept, headers: Headers) -> Response:
        """The answer as this client takes it, or 304 if they have it."""
        can_pack = packable(len(kept.body), self._packs_from)
        packs = can_pack and coding_for(headers.get("accept-encoding")) == GZIP
        tag = f"{kept.tag}-{GZIP}" if packs else kept.tag
        said = {"ETag": f'"{tag}"', "Cache-Control": "private, no-cache"}
        if can_pack:
            said["Vary"] = "Accept-Encoding"
        if has(headers.get("if-none-match"), tag):
            return Response(None, 304, headers=said)
        if packs:
            said["Content-Encoding"] = GZIP
        body = self._packed(question, kept) if packs else kept.body
        return Response(body, headers={**said, "Content-Type": f"{question.media_type}; charset=utf-8"})

    def _packed(self, question: Question, kept: Kept) -> bytes:
        if kept.packed is None:
            there = self._kept.get(question.key) is kept
            self.bytes -= kept.size if there else 0
            kept.packed = packed(kept.body)
            self.bytes += kept.size if there else 0
            self._shrink()
        return kept.packed

    def _forget(self, key: bytes) -> None:
        gone = self._kept.pop(key, None)
        if gone is not None:
            self.bytes -= gone.size

    def _shrink(self) -> None:
        while self.bytes > self._most:
            self._forget(next(iter(self._kept)))


def has(if_none_match: str | None, tag: str) -> bool:
    """Whether the client has the representation with this tag (RFC 9110, 13.1.2)."""
    if if_none_match is None:
        return False
    return if_none_match.strip() == "*" or tag in _TAG.findall(if_none_match)


@cache
def build() -> str:
    """A digest of the code: another version may answer otherwise though the views stand as they did."""
    digest = hashlib.sha256()
    for file in sorted(f for layer in ("api", "projections", "domain") for f in (ROOT / layer).rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


ROOT = Path(__file__).parents[2]
