"""Logs: one JSON object a line on standard error, ours and the libraries' alike; for people while developing."""

from __future__ import annotations

import logging
import sys
import traceback
from typing import Any

import orjson
import structlog
from structlog.types import EventDict, Processor

from api.settings import Environment

SHARED: tuple[Processor, ...] = (
    structlog.contextvars.merge_contextvars,  # the ids of the request
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)


class Lines:
    """Writes our own lines straight to standard error: the road through `logging` costs more than the line."""

    def __init__(self, name: str = "anjuan") -> None:
        self.name = name

    def msg(self, line: bytes) -> None:
        """One line, whole."""
        sys.stderr.buffer.write(line + b"\n")
        sys.stderr.buffer.flush()

    debug = info = warning = error = critical = exception = msg


def where(problem: BaseException) -> list[str]:
    """Where it happened, innermost last: places in our code, and nothing of what was in hand there."""
    frames = traceback.extract_tb(problem.__traceback__)
    return [f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in frames[-6:]]


def _without_words(_: Any, __: str, said: EventDict) -> EventDict:
    """What a library reports of an exception: its kind and where, since its message may hold what people wrote."""
    _, problem, _ = said.pop("exc_info", None) or (None, None, None)
    if isinstance(problem, BaseException):
        said["event"] = str(said["event"]).partition("\n")[0]  # asyncio adds the exception itself on the lines after
        said.update(error=type(problem).__name__, where=where(problem))
    return said


def _line(_: Any, __: str, said: EventDict) -> bytes:
    return orjson.dumps(said, default=repr)


def configure(environment: Environment) -> None:
    """Send everything that is logged from now on out in one form. What is logged holds no patient's words."""
    developing = environment is Environment.DEVELOPMENT
    renderer = structlog.dev.ConsoleRenderer() if developing else structlog.processors.JSONRenderer(ensure_ascii=False)
    if developing:
        structlog.configure(
            processors=[*SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
            logger_factory=structlog.stdlib.LoggerFactory(),
            wrapper_class=structlog.stdlib.BoundLogger,
            cache_logger_on_first_use=True,
        )
    else:
        structlog.configure(
            processors=[*SHARED, _line],
            logger_factory=Lines,
            wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
            cache_logger_on_first_use=True,
        )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*SHARED, *([] if developing else [_without_words])],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
