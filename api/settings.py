"""How this process is set up: from the environment (`ANJUAN_…`, `DATABASE_URL`), with defaults that just work."""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Self, cast
from urllib.parse import urlsplit

from pydantic import AliasChoices, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

SIGNATURES = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"})
"""Algorithms by which an issuer may sign (RFC 7518, 8037): all by a private key, none by a shared secret."""
_ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9a-f:]+\](:[0-9]{1,5})?")


def safe_address(address: str) -> bool:
    """Whether what is fetched from there cannot be changed on the way: https, or this machine itself."""
    try:
        parts = urlsplit(address)
        here = parts.hostname in ("127.0.0.1", "::1", "localhost")
        return (parts.scheme == "https" and bool(parts.hostname)) or (parts.scheme == "http" and here)
    except ValueError:
        return False


class Environment(StrEnum):
    """`development` adds the explorer and tells what went wrong in the log at length; `production` does neither."""

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
    database_reader_url: str | None = Field(
        default=None,
        validation_alias=AliasChoices("DATABASE_READER_URL", "ANJUAN_DATABASE_READER_URL"),
        description="the same database as a login of anjuan_reader alone, for questions; DATABASE_URL if not set",
    )
    database_runner_url: str | None = Field(
        default=None,
        validation_alias=AliasChoices("DATABASE_RUNNER_URL", "ANJUAN_DATABASE_RUNNER_URL"),
        description="the same database as a login of anjuan_runner, for views and operators; DATABASE_URL if not set",
    )
    host: str = "127.0.0.1"
    port: int = Field(default=8420, ge=0, le=65535)
    environment: Environment = Environment.PRODUCTION

    token_days: int = Field(default=90, ge=1, description="how long a new bearer token is valid")
    token_days_max: int = Field(default=366, ge=1, description="longest validity that may be asked for")
    session_hours: int = Field(default=12, ge=1, le=168, description="how long whoever signed in stays signed in")
    trusted_proxies: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = Field(
        default=(),
        description="networks of proxies whose X-Forwarded-For is believed, with commas between: 10.0.0.0/8, ::1",
    )
    unknown_tokens_max: int = Field(
        default=30, ge=1, description="unknown tokens an address may send before it must wait; one is forgiven in 2 s"
    )
    oidc_issuer: str | None = Field(
        default=None, description="OpenID issuer whose tokens are accepted, as its tokens say it; https"
    )
    oidc_audience: str | None = Field(default=None, description="what the issuer's tokens for this system say as `aud`")
    oidc_claim: str = Field(default="sub", min_length=1, description="the claim that says who it is at the issuer")
    oidc_algorithms: Annotated[tuple[str, ...], NoDecode] = Field(
        default=("RS256", "ES256", "EdDSA"), description="signatures accepted of the issuer, with commas between"
    )
    oidc_leeway_seconds: int = Field(default=30, ge=0, le=300, description="how far the issuer's clock may be off")
    oidc_keys_seconds: int = Field(default=600, ge=10, description="how old the issuer's keys may be before a refresh")
    oidc_refetch_seconds: int = Field(default=30, ge=1, description="least time between fetches of the issuer's keys")

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
    live_connections_max: int = Field(default=1000, ge=1, description="most connections for subscriptions, in all")
    live_person_max: int = Field(default=10, ge=1, description="most connections for subscriptions of one person")
    live_subscriptions_max: int = Field(default=20, ge=1, description="most subscriptions of one WebSocket")
    live_message_bytes_max: int = Field(
        default=256 * 1024, ge=1024, description="longest message of a WebSocket client"
    )
    live_init_seconds: float = Field(
        default=10.0, gt=0, description="longest time until a WebSocket client says who it is"
    )
    live_ping_seconds: float = Field(default=20.0, gt=0, description="silence after which a subscriber is pinged")
    live_pong_seconds: float = Field(default=10.0, gt=0, description="longest time for the answer to a ping")
    live_stall_seconds: float = Field(default=15.0, gt=0, description="how long a subscriber may read nothing")
    live_check_seconds: float = Field(
        default=5.0, gt=0, description="how often a silent subscriber's token is looked at"
    )
    live_poll_seconds: float = Field(default=0.2, gt=0, description="how often positions are looked at for subscribers")
    live_pace_seconds: float = Field(
        default=0.05, gt=0, description="the same while they move: shortest time between messages of a subscription"
    )
    plan: bool = Field(default=True, description="answer questions by compiled SQL where that is known to be the same")
    read_log_seconds: float = Field(
        default=5.0, gt=0, description="longest wait for the log of reads; then an answer with personal data is refused"
    )
    read_log_flush: bool = Field(
        default=True,
        description="whether ordinary reads, too, are on disk before the answer leaves; break-glass always is",
    )
    cost_per_minute: int = Field(default=600_000, ge=1, description="most a person's requests may cost per minute")

    @field_validator("trusted_proxies", "oidc_algorithms", mode="before")
    @classmethod
    def _with_commas(cls, said: object) -> object:
        return [word.strip() for word in said.split(",") if word.strip()] if isinstance(said, str) else said

    @field_validator("oidc_algorithms")
    @classmethod
    def _of_two_keys(cls, said: tuple[str, ...]) -> tuple[str, ...]:
        """Signatures by a private key only: with `none` or a shared secret anybody could sign."""
        if not said or not set(said) <= SIGNATURES:
            raise ValueError(f"name some of {', '.join(sorted(SIGNATURES))}")
        return said

    @model_validator(mode="after")
    def _issuer_is_whole(self) -> Self:
        """An issuer without an audience would let in every program of its users; keys come by https."""
        if (self.oidc_issuer is None) != (self.oidc_audience is None):
            raise ValueError("set ANJUAN_OIDC_ISSUER and ANJUAN_OIDC_AUDIENCE, or neither")
        if self.oidc_issuer is not None and not safe_address(self.oidc_issuer):
            raise ValueError("ANJUAN_OIDC_ISSUER is an https address, or http on this machine")
        return self

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

    @property
    def master_key_file(self) -> Path:
        """Where the master key lies unless `ANJUAN_MASTER_KEY` holds it."""
        return self.data / "master.key"
