"""By what the client finds a request again in our logs."""

from __future__ import annotations

import re

from starlette.datastructures import Headers

_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+/=@-]{0,127}")
_TRACEPARENT = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-[!-~]*)?")
_LONGEST = 256


def ids_of_client(headers: Headers) -> dict[str, str]:
    """The ids the client says, for every log line of the request beside our own `correlation`.

    `request_id` is `X-Request-Id`, `trace` the trace id of a W3C `traceparent`. They never stand in for ours, so nobody
    can make two requests look like one; what is not well formed or too long is left out, so that a log holds no text of
    strangers.
    """
    found: dict[str, str] = {}
    said = headers.get("x-request-id")
    if said is not None and _REQUEST_ID.fullmatch(said):
        found["request_id"] = said
    parent = headers.get("traceparent")
    if parent is not None and len(parent) <= _LONGEST:
        trace = _TRACEPARENT.fullmatch(parent)
        # version 00 ends after the flags; later versions may say more
        if trace is not None and (trace[1] != "00" or trace[3] is None):
            found["trace"] = trace[2]
    return found
