"""Tokens of an OpenID Connect issuer, as a resource server takes them (RFC 7519, 8725, 9068; OpenID Discovery 1.0).

The issuer proves who somebody is there and nothing else: which person that is here, and what they may do, is said by
our own histories. A token is believed when a key of the issuer signed it by an algorithm we chose, for us, for now.
Keys come from the issuer's own address over https and from nowhere a token points at (`jku`, `x5u`, `jwk`, `x5c`).
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import httpx
import orjson
import structlog
from joserfc import jwk, jws
from joserfc.errors import ExpiredTokenError, InvalidClaimError, JoseError, MissingClaimError
from joserfc.jws import (
    JWSAlgModel,  # pyright: ignore[reportPrivateImportUsage]  it types a method that is overridden here
    JWSRegistry,
)
from joserfc.jwt import JWTClaimsRegistry

from api.access.doorkeeper import Known, Unauthenticated
from api.access.token import digest, token_id
from api.settings import Settings, safe_address
from domain.credential import SUBJECT_LENGTH_MAX

TOKEN_LENGTH_MAX = 16 * 1024
ANSWER_BYTES_MAX = 256 * 1024
KEYS_MAX = 100
FETCH_SECONDS = 5.0
STALE_SECONDS = 86_400.0
"""How long keys are believed while the issuer cannot be reached."""
RSA_BYTES_MIN = 256
TYPES = frozenset({"jwt", "at+jwt", "application/jwt", "application/at+jwt"})
DISCOVERY = "/.well-known/openid-configuration"

_log: structlog.stdlib.BoundLogger = structlog.get_logger("anjuan.oidc")


class Away(Exception):
    """The issuer could not be asked, or did not answer as one does."""


class _Registry(JWSRegistry):
    """The algorithms we chose, without the library's warning that `EdDSA` has newer names: issuers still write it."""

    max_header_length = max_payload_length = TOKEN_LENGTH_MAX

    def get_alg(self, name: str) -> JWSAlgModel:
        if name not in (self.allowed or ()):
            raise JoseError(f"{name} is not accepted")
        return self.algorithms[name]


@dataclass
class Keys:
    """The issuer's keys as they were fetched last; times by the clock of the process."""

    known: list[jwk.Key] = field(default_factory=list[jwk.Key])
    fetched_at: float = float("-inf")
    tried_at: float = float("-inf")
    away: bool = False


class Oidc:
    """Takes the tokens of one issuer. Belongs to one event loop."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        assert settings.oidc_issuer is not None, "see Settings"
        assert settings.oidc_audience is not None, "see Settings"
        self._issuer = settings.oidc_issuer
        self._claim = settings.oidc_claim
        self._refresh_after = float(settings.oidc_keys_seconds)
        self._apart = float(settings.oidc_refetch_seconds)
        self._registry = _Registry(algorithms=settings.oidc_algorithms, strict_check_header=False)
        self._claims = JWTClaimsRegistry(
            leeway=settings.oidc_leeway_seconds,
            iss={"essential": True, "value": self._issuer},
            aud={"essential": True, "value": settings.oidc_audience},
            exp={"essential": True},
        )
        self._keys = Keys()
        self._fetching = asyncio.Lock()
        self._clock = clock

    async def verified(self, token: str) -> Known:
        """Whom the token is about; raises Unauthenticated, with 503 while the issuer cannot be asked for its keys."""
        header = _header(token)
        algorithm, kid = header.get("alg"), header.get("kid")
        if not isinstance(algorithm, str) or algorithm not in (self._registry.allowed or ()):
            raise _refused("is signed by an algorithm that is not accepted here")
        if "crit" in header or str(header.get("typ", "JWT")).lower() not in TYPES:
            raise _refused("is no token of this kind")
        key = await self._key(algorithm, kid if isinstance(kid, str) else None)
        try:
            said = jws.deserialize_compact(token, key, registry=self._registry)
            claims: Any = orjson.loads(said.payload)
        except (JoseError, ValueError):
            raise _refused("is not signed by the issuer") from None
        if not isinstance(claims, dict):
            raise _refused("says nothing")
        return Known(self._issuer, self._subject(cast("dict[str, Any]", claims)), f"oidc-{token_id(digest(token))}")

    def _subject(self, claims: dict[str, Any]) -> str:
        """Who it is at the issuer, if the token is for us and for now."""
        try:
            self._claims.validate(claims)
        except ExpiredTokenError:
            raise Unauthenticated("The issuer's token has expired; sign in again.", "access.token_expired") from None
        except MissingClaimError as missing:
            raise _refused(f"lacks {missing.claim}") from None
        except InvalidClaimError as wrong:
            raise _refused(f"is not for here and now ({wrong.claim})") from None
        subject = claims.get(self._claim)
        if not isinstance(subject, str) or not 0 < len(subject) <= SUBJECT_LENGTH_MAX:
            raise _refused(f"does not say who it is about ({self._claim})")
        return subject

    async def _key(self, algorithm: str, kid: str | None) -> jwk.Key:
        """The one key of the issuer that may have signed; a key that is not known is looked for, not too often."""
        if self._clock() - self._keys.fetched_at > self._refresh_after:
            await self._refetch()
        key = self._suiting(algorithm, kid)
        if key is None and await self._refetch():
            key = self._suiting(algorithm, kid)
        if key is not None:
            return key
        if self._keys.away:
            sentence = "The issuer of your token cannot be reached for its keys; try again in a moment."
            raise Unauthenticated(sentence, "oidc.away", 503, Retry_After=f"{self._apart:.0f}")
        raise _refused("is signed by a key the issuer does not have")

    def _suiting(self, algorithm: str, kid: str | None) -> jwk.Key | None:
        if self._clock() - self._keys.fetched_at > STALE_SECONDS + self._refresh_after:
            return None
        model = self._registry.get_alg(algorithm)
        suiting = [k for k in self._keys.known if (kid is None or k.kid == kid) and _suits(k, model)]
        return suiting[0] if len(suiting) == 1 else None

    async def _refetch(self) -> bool:
        """Fetch the keys anew unless that was tried just now; whether it was done."""
        if self._fetching.locked():  # somebody does it now
            async with self._fetching:
                return True
        if self._clock() - self._keys.tried_at < self._apart:
            return False
        async with self._fetching:
            self._keys.tried_at = self._clock()
            try:
                self._keys = Keys(await self._fetched(), self._clock(), self._keys.tried_at)
            except Away as problem:
                self._keys.away = True
                _log.warning("issuer away", issuer=self._issuer, why=str(problem))
                return False
            return True

    async def _fetched(self) -> list[jwk.Key]:
        try:
            async with asyncio.timeout(FETCH_SECONDS), httpx.AsyncClient(timeout=FETCH_SECONDS) as client:
                described = await _json(client, self._issuer.rstrip("/") + DISCOVERY)
                place = described.get("jwks_uri")
                if described.get("issuer") != self._issuer:
                    raise Away("its description names another issuer")
                if not isinstance(place, str) or not safe_address(place):
                    raise Away("its keys are not at an https address")
                listed = (await _json(client, place)).get("keys")
        except (TimeoutError, httpx.HTTPError, httpx.InvalidURL) as problem:
            raise Away(type(problem).__name__) from None
        if not isinstance(listed, list):
            raise Away("its list of keys is none")
        found = [_public(one) for one in cast("list[Any]", listed)[:KEYS_MAX]]
        return [key for key in found if key is not None]


def issuer_of(settings: Settings) -> Oidc | None:
    """The issuer of the settings, if there is one."""
    return None if settings.oidc_issuer is None else Oidc(settings)


async def _json(client: httpx.AsyncClient, address: str) -> dict[str, Any]:
    """A JSON object from exactly this address, no larger than it needs to be; raises Away."""
    body = bytearray()
    async with client.stream("GET", address, headers={"Accept": "application/json"}, follow_redirects=False) as answer:
        if answer.status_code != 200:
            raise Away(f"answered {answer.status_code}")
        async for chunk in answer.aiter_bytes():
            body += chunk
            if len(body) > ANSWER_BYTES_MAX:
                raise Away("its answer is too large")
    try:
        said: Any = orjson.loads(bytes(body))
    except orjson.JSONDecodeError:
        raise Away("its answer is no JSON") from None
    if not isinstance(said, dict):
        raise Away("its answer is no object")
    return cast("dict[str, Any]", said)


def _public(said: Any) -> jwk.Key | None:
    """A key that verifies signatures, or nothing: secrets, keys for encryption and short ones are passed over."""
    if not isinstance(said, dict):
        return None
    parts = cast("dict[str, Any]", said)
    if parts.get("kty") not in ("RSA", "EC", "OKP") or "d" in parts or parts.get("use", "sig") != "sig":
        return None
    if parts["kty"] == "RSA" and len(_bytes(str(parts.get("n", "")))) < RSA_BYTES_MIN:
        return None
    try:
        return jwk.import_key(parts)
    except (JoseError, ValueError, TypeError, KeyError):
        return None


def _suits(key: jwk.Key, model: JWSAlgModel) -> bool:
    """Whether the key may verify by this algorithm: its kind, its curve, and what it says of itself."""
    try:
        key.check_alg(model.name)
        key.check_key_op("verify")
        model.check_key(key)
    except (JoseError, ValueError):
        return False
    return True


def _header(token: str) -> Mapping[str, Any]:
    if len(token) > TOKEN_LENGTH_MAX:
        raise _refused("is too long")
    try:
        said: Any = orjson.loads(_bytes(token.partition(".")[0]))
    except ValueError:
        raise _refused("cannot be read") from None
    if not isinstance(said, dict):
        raise _refused("cannot be read")
    return cast("dict[str, Any]", said)


def _bytes(encoded: str) -> bytes:
    """base64url without padding; empty when it is not that."""
    try:
        return base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
    except ValueError:
        return b""


def _refused(why: str) -> Unauthenticated:
    return Unauthenticated(f"The token {why}; sign in again at your issuer.")
