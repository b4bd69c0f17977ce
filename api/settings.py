"""How this process is set up: from the environment (`ANJUAN_…`, `DATABASE_URL`), with defaults that just work."""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, cast

from pydantic import AliasChoices, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

_ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9a-f:]+\](:[0-9]{1,5})?")


class Environment(StrEnum):
    """`development` adds GraphiQL and tells what went wrong in the log at length; `production` does neither."""

    DEVELOPMENT = "development"
    PRODUCTION = "production"


class Settings(BaseSettings):
    """Every setting of the edge; in the environment, these names with `ANJUAN_` before them unless said otherwise."""

    model_config = SettingsConfigDict(env_prefix="ANJUAN_", frozen=True, extra="ignore", populate_by_name=True)

    data: Path = Field(default=Path(".anjuan"), description="directory of the embedded server and of the master key")
    database_url: str | None = Field(
        default=None,
        validation_alias=AliasChoices("DATABASE_URL", "ANJUAN_DATABASE_URL"),
        description="a PostgreSQL 15 or newer, as the application's login; without it the embedded server is used",
    )
    database_owner_url: str | None = Field(
        default=None,
        validation_alias=AliasChoices("DATABASE_OWNER_URL", "ANJUAN_DATABASE_OWNER_URL"),
        description="the same database as its owner, who migrates; DATABASE_URL if not set",
    )
    host: str = "127.0.0.1"
    port: int = Field(default=8420, ge=0, le=65535)
    environment: Environment = Environment.PRODUCTION

    token_days: int = Field(default=90, ge=1, description="how long a new bearer token is valid")
    token_days_max: int = Field(default=366, ge=1, description="longest validity that may be asked for")

    connections_max: int = Field(
        default=10, ge=1, description="most database connections for queries, and as many for commands"
    )
    body_bytes_max: int = Field(default=1024 * 1024, ge=1024, description="largest request")
    questions_at_once: int = Field(default=24, ge=1, description="most questions worked on at once; the rest waits")
    commands_at_once: int = Field(default=16, ge=1, description="most commands worked on at once; the rest waits")
    queue_max: int = Field(default=64, ge=0, description="most questions, and commands, that wait; the rest is refused")
    queue_seconds: float = Field(default=1.0, gt=0, description="longest wait to be let in before a refusal")
    requests_open_max: int = Field(default=512, ge=1, description="most requests that have begun and are not over")
    head_seconds: float = Field(default=10.0, gt=0, description="longest time for a client to send a request's head")
    body_seconds: float = Field(default=15.0, gt=0, description="longest time for a client to send a request's body")
    drain_seconds: float = Field(
        default=0.0, ge=0, description="how long to say on /readyz that we end before connections are taken no more"
    )
    grace_seconds: float = Field(default=20.0, gt=0, description="longest time for requests under way when we end")
    metrics_token: SecretStr | None = Field(
        default=None, min_length=16, description="a bearer token that opens /metrics and nothing else"
    )
    request_seconds: float = Field(
        default=15.0, gt=0, description="longest time for a query; commands are never cut short"
    )
    statement_seconds: float = Field(default=10.0, gt=0, description="longest time for one SQL statement of a query")
    wait_seconds: float = Field(default=2.0, ge=0, description="how long `consistentWith` waits for the views")
    document_chars_max: int = Field(default=64 * 1024, ge=1, description="longest document; texts go into variables")
    tokens_max: int = Field(default=2000, ge=1, description="most lexical tokens of a document")
    depth_max: int = Field(default=12, ge=1, description="deepest nesting of a query")
    fields_max: int = Field(default=10, ge=1, description="most fields at the root of an operation")
    selections_max: int = Field(default=500, ge=1, description="most fields of an operation, fragments counted out")
    repeats_max: int = Field(default=10, ge=1, description="how often one selection may say the same field")
    aliases_max: int = Field(default=30, ge=0, description="most aliases of a document")
    directives_max: int = Field(default=50, ge=0, description="most directives of a document")
    fragments_max: int = Field(default=50, ge=0, description="most fragments of a document")
    cost_max: int = Field(default=20_000, ge=1, description="most an operation may cost: rows times page sizes, nested")
    plan: bool = Field(default=False, description="answer questions by compiled SQL where that is known to be the same")
    cost_per_minute: int = Field(default=600_000, ge=1, description="most a person's requests may cost per minute")

    @property
    def master_key_file(self) -> Path:
        """Where the master key lies unless `ANJUAN_MASTER_KEY` holds it."""
        return self.data / "master.key"
    documents: Path | None = Field(
        default=None, description="manifest of trusted documents (JSON); with one, other documents need a scope"
    )
    answers_bytes: int = Field(
        default=32 * 1024 * 1024, ge=0, description="memory for answers kept while their views stand still; 0 for none"
    )
    compress_bytes_min: int = Field(default=1024, ge=0, description="smallest answer that is compressed; 0 for none")
    origins: Annotated[frozenset[str], NoDecode] = Field(
        default=frozenset(),
        description="origins whose pages may ask here (CORS), with commas between: https://desk.example.org",
    )
    @field_validator("origins", mode="before")
    @classmethod
    def _listed(cls, said: object) -> object:
        """The origins one by one; raises ValueError for what is no origin, `*` above all."""
        if isinstance(said, str):
            said = [word.strip() for word in said.split(",") if word.strip()]
        if not isinstance(said, list | tuple | set | frozenset):
            return said
        listed = [str(one).lower() for one in cast("Iterable[object]", said)]
        for one in listed:
            if not _ORIGIN.fullmatch(one):
                raise ValueError(f"{one} is no origin; write scheme, host and port as in https://desk.example.org:8443")
        return frozenset(listed)

