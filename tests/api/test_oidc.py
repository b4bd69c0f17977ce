"""Tokens of an OpenID issuer: a real one, over HTTP on this machine, with keys of its own; and those who forge them."""

from __future__ import annotations

import base64
import hmac
import json
import threading
import time
import warnings
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import uuid4

import pytest
from joserfc import jws
from joserfc.errors import SecurityWarning
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey
from pydantic import ValidationError

from api.access.doorkeeper import identity_sha256
from api.access.oidc import ANSWER_BYTES_MAX, STALE_SECONDS, Oidc, _Registry
from api.app import create_app
from api.settings import Settings
from domain.kernel import Role
from domain.store.casebook import House
from tests.api.conftest import SETTINGS, Desk, Edge, Office, intake, open_office, running

AUDIENCE = "anjuan"
ME = "{ me { staffId roles institution } }"
SIGNING = _Registry(algorithms=["RS256", "ES256", "EdDSA", "HS256", "PS256", "RS384"], strict_check_header=False)


@dataclass
class Issuer:
    """An OpenID provider as far as a resource server sees one."""

    address: str = ""
    keys: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    asked: list[str] = field(default_factory=list[str])
    away: bool = False
    described: dict[str, Any] = field(default_factory=dict[str, Any])
    body: bytes | None = None

    def describe(self) -> dict[str, Any]:
        return {"issuer": self.address, "jwks_uri": f"{self.address}/keys", **self.described}

    def answer(self, path: str) -> tuple[int, bytes]:
        self.asked.append(path)
        if self.away:
            return 500, b"{}"
        if path == "/keys":
            return 200, self.body or json.dumps({"keys": self.keys}).encode()
        return (200, json.dumps(self.describe()).encode()) if path.startswith("/.well-known") else (404, b"{}")

    def new_key(self, kind: type[Any] = RSAKey, size: Any = 2048, **said: Any) -> Key:
        key: Key = kind.generate_key(size, {"kid": f"k-{uuid4()}", **said})
        self.keys.append(key.as_dict(private=False))
        return key


@pytest.fixture(scope="module")
def issuer() -> Generator[Issuer]:
    known = Issuer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = known.answer(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        known.address = f"http://127.0.0.1:{server.server_address[1]}"
        yield known
        server.shutdown()
        thread.join()


@dataclass
class Clock:
    """The clock that says how old keys are."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Realm:
    """Our side: an application that trusts the issuer, and somebody who is linked to it."""

    issuer: Issuer
    edge: Edge
    office: Office
    clock: Clock
    key: Key
    agent: Desk
    subject: str

    def claims(self, **more: Any) -> dict[str, Any]:
        now = int(time.time())
        said = {"iss": self.issuer.address, "aud": AUDIENCE, "sub": self.subject, "iat": now, "exp": now + 300} | more
        return {name: value for name, value in said.items() if value is not None}

    def token(
        self, key: Key | None = None, alg: str = "RS256", header: dict[str, Any] | None = None, **claims: Any
    ) -> str:
        key = key or self.key
        protected = {"alg": alg, "kid": key.kid, **(header or {})}
        return signed({n: v for n, v in protected.items() if v is not None}, self.claims(**claims), key)

    def send(self, token: str) -> tuple[int, Any]:
        answer = self.edge.send("POST", "/graphql", json={"query": ME}, headers={"Authorization": f"Bearer {token}"})
        assert token not in answer.text
        said = answer.json()
        return answer.status_code, said["data"]["me"] if "data" in said else said["errors"][0]["extensions"]["code"]

    def later(self, seconds: float) -> None:
        self.clock.now += seconds


def signed(protected: dict[str, Any], claims: Any, key: Key) -> str:
    payload = claims if isinstance(claims, bytes) else json.dumps(claims)
    return jws.serialize_compact(protected, payload, key, registry=SIGNING)


@contextmanager
def _quiet() -> Generator[None]:
    """The library warns of what only a forger would do."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SecurityWarning)
        yield


def encoded(said: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(said).encode()).rstrip(b"=").decode()


def trusting(issuer: Issuer, **more: Any) -> Settings:
    said = {"oidc_issuer": issuer.address, "oidc_audience": AUDIENCE, "unknown_tokens_max": 100_000, **more}
    return Settings(_env_file=None, **said)  # pyright: ignore[reportCallIssue]  an argument of pydantic-settings


@pytest.fixture
def realm(issuer: Issuer, house: House, casebook: Any) -> Generator[Realm]:
    issuer.keys, issuer.asked, issuer.described = [], [], {}
    issuer.away, issuer.body = False, None
    clock = Clock()
    with running(create_app(trusting(issuer), house)) as edge:
        edge.app.state.doorkeeper._issuer._clock = clock
        office, subject = open_office(edge, casebook), f"u-{uuid4()}"
        agent = office[Role.CS_AGENT]
        office[Role.ADMIN].done("staffLinkIdentity", id=agent.id, issuer=issuer.address, subject=subject)
        yield Realm(issuer, edge, office, clock, issuer.new_key(), agent, subject)


# whom it lets in


def test_who_is_linked_comes_in_with_the_posts_of_our_own_history(realm: Realm) -> None:
    token = realm.token(roles=["ADMIN"], scope="own_documents", email="boss@example.cn", groups=["admins"])
    status, me = realm.send(token)
    assert (status, me) == (
        200,
        {"staffId": str(realm.agent.id), "roles": ["CS_AGENT"], "institution": realm.office.code},
    )
    desk = Desk(realm.edge, token, realm.agent.id)
    desk.done("complaintReceive", **intake())
    refused = desk.post("{ viewLag { view } }")
    assert refused["errors"][0]["extensions"]["code"] == "access.role"


@pytest.mark.parametrize(
    ("kind", "size", "alg"), [(RSAKey, 2048, "RS256"), (ECKey, "P-256", "ES256"), (OKPKey, "Ed25519", "EdDSA")]
)
def test_each_accepted_signature_is_accepted(realm: Realm, kind: Any, size: Any, alg: str) -> None:
    key = realm.issuer.new_key(kind, size, use="sig")
    for typ in ("JWT", "at+jwt", "application/at+jwt", None):
        assert realm.send(realm.token(key, alg, {"typ": typ}))[0] == 200, typ
    assert realm.send(realm.token(key, alg, aud=["other", AUDIENCE]))[0] == 200


def test_who_is_not_linked_or_no_longer_does_not_come_in(realm: Realm) -> None:
    admin = realm.office[Role.ADMIN]
    assert realm.send(realm.token(sub=f"u-{uuid4()}")) == (401, "access.identity_unknown")
    assert realm.send(realm.token())[0] == 200
    who = {"issuer": realm.issuer.address, "subject": realm.subject}
    admin.done("staffUnlinkIdentity", id=realm.agent.id, **who)
    assert realm.send(realm.token()) == (401, "access.identity_unknown")
    with realm.office.casebook.house.within(realm.office.code) as connection:
        connection.execute(
            "INSERT INTO identity_link (identity_sha256, institution, staff_id) VALUES (%s, %s, %s)",
            (identity_sha256(realm.issuer.address, realm.subject), realm.office.code, realm.agent.id),
        )
    assert realm.send(realm.token()) == (401, "access.identity_unknown"), "the history says who is linked"
    admin.done("staffLinkIdentity", id=realm.agent.id, **who)
    assert realm.send(realm.token())[0] == 200
    admin.done("staffLeave", id=realm.agent.id, reason="离职")
    assert realm.send(realm.token()) == (401, "access.left")


def test_which_claim_says_who_it_is_can_be_chosen(realm: Realm, house: House) -> None:
    with running(create_app(trusting(realm.issuer, oidc_claim="employee"), house)) as edge:
        realm.edge = edge
        assert realm.send(realm.token(sub="somebody", employee=realm.subject))[0] == 200
        assert realm.send(realm.token()) == (401, "access.token"), "the subject is not what was agreed"


def test_an_issuers_token_does_not_sign_out_here(realm: Realm) -> None:
    answer = realm.edge.send("POST", "/sign-out", headers={"Authorization": f"Bearer {realm.token()}"})
    assert (answer.status_code, answer.json()["errors"][0]["extensions"]["code"]) == (400, "sign_in.elsewhere")


def test_without_an_issuer_no_such_token_is_taken(realm: Realm, edge: Edge) -> None:
    realm.edge = edge
    assert realm.send(realm.token()) == (401, "access.token")


# forgeries


@pytest.mark.parametrize(
    ("claims", "code"),
    [
        ({"exp": 1}, "access.token_expired"),
        ({"exp": int(time.time()) - 40}, "access.token_expired"),
        ({"exp": None}, "access.token"),
        ({"exp": "tomorrow"}, "access.token"),
        ({"exp": True}, "access.token"),
        ({"nbf": int(time.time()) + 600}, "access.token"),
        ({"iat": int(time.time()) + 600}, "access.token"),
        ({"iss": "https://elsewhere.example.cn"}, "access.token"),
        ({"iss": None}, "access.token"),
        ({"iss": ["x"]}, "access.token"),
        ({"aud": "other"}, "access.token"),
        ({"aud": ["other"]}, "access.token"),
        ({"aud": None}, "access.token"),
        ({"aud": []}, "access.token"),
        ({"aud": {"anjuan": 1}}, "access.token"),
        ({"sub": None}, "access.token"),
        ({"sub": ""}, "access.token"),
        ({"sub": 7}, "access.token"),
        ({"sub": "u" * 256}, "access.token"),
    ],
)
def test_a_token_for_another_time_place_or_person_opens_nothing(
    realm: Realm, claims: dict[str, Any], code: str
) -> None:
    assert realm.send(realm.token(**claims)) == (401, code)


def test_a_clock_that_is_a_little_off_is_borne(realm: Realm) -> None:
    now = int(time.time())
    assert realm.send(realm.token(exp=now - 10, nbf=now + 10, iat=now + 10))[0] == 200


def test_a_token_another_key_signed_opens_nothing(realm: Realm) -> None:
    forger = RSAKey.generate_key(2048, {"kid": str(realm.key.kid)})
    assert realm.send(realm.token(forger)) == (401, "access.token")
    good = realm.token()
    head, body, signature = good.split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    changed = encoded({**claims, "sub": "admin"})
    assert realm.send(f"{head}.{changed}.{signature}") == (401, "access.token")
    assert realm.send(f"{head}.{body}.") == (401, "access.token")
    assert realm.send(f"{head}.{body}.{signature[:-4]}AAAA") == (401, "access.token")
    assert realm.send(good)[0] == 200


def test_no_signature_and_a_shared_secret_are_no_signatures(realm: Realm) -> None:
    """Algorithm confusion: `none`, and HS256 with what everybody knows, the public key."""
    claims = realm.claims()
    for alg in ("none", "None", "NONE", ""):
        assert realm.send(f"{encoded({'alg': alg, 'kid': realm.key.kid})}.{encoded(claims)}.") == (401, "access.token")
    assert isinstance(realm.key, RSAKey)
    public = realm.key.as_dict(private=False)
    for secret in (realm.key.as_pem(private=False), json.dumps(public).encode(), str(public["n"]).encode()):
        head = f"{encoded({'alg': 'HS256', 'kid': realm.key.kid})}.{encoded(claims)}"
        mac = hmac.digest(secret, head.encode(), "sha256")
        forged = f"{head}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"
        assert realm.send(forged) == (401, "access.token")
    for alg in ("RS384", "PS256"):
        assert realm.send(realm.token(alg=alg)) == (401, "access.token"), "sound, but not accepted here"


def test_a_key_signs_only_by_its_own_kind_of_algorithm(realm: Realm) -> None:
    elliptic = realm.issuer.new_key(ECKey, "P-256")
    wrong = realm.token(elliptic, "ES256", {"kid": realm.key.kid})
    assert realm.send(wrong) == (401, "access.token")
    assert realm.send(realm.token(elliptic, "ES256"))[0] == 200


@pytest.mark.parametrize(
    "said", [{"use": "enc"}, {"alg": "PS256"}, {"key_ops": ["encrypt"]}, {"kty": "oct", "k": "c2VjcmV0"}]
)
def test_a_key_that_is_not_for_this_signs_nothing(realm: Realm, said: dict[str, Any]) -> None:
    key = realm.issuer.new_key()
    realm.issuer.keys[-1] |= said
    assert realm.send(realm.token(key)) == (401, "access.token")
    assert realm.send(realm.token())[0] == 200, "the others are kept"


def test_a_key_whose_secret_was_published_signs_nothing(realm: Realm) -> None:
    key = realm.issuer.new_key()
    realm.issuer.keys[-1] = key.as_dict(private=True)
    assert realm.send(realm.token(key)) == (401, "access.token")


def test_a_short_key_signs_nothing(realm: Realm) -> None:
    with _quiet():
        key = RSAKey.generate_key(1024, {"kid": "short"})
        realm.issuer.keys.append(key.as_dict(private=False))
        token = realm.token(key)
    assert realm.send(token) == (401, "access.token")


def test_a_token_cannot_say_where_its_key_is(realm: Realm) -> None:
    """`jku`, `x5u`, `jwk` and `x5c` are not looked at: nothing is fetched, and nothing believed."""
    forger = RSAKey.generate_key(2048, {"kid": "forged"})
    here = f"{realm.issuer.address}/forged"
    for header in ({"jku": here}, {"x5u": here}, {"jwk": forger.as_dict(private=False)}):
        assert realm.send(realm.token(forger, header=header)) == (401, "access.token")
        assert realm.send(realm.token(header=header))[0] == 200, "and do no harm"
    assert "/forged" not in realm.issuer.asked


@pytest.mark.parametrize("header", [{"crit": ["b64"], "b64": False}, {"typ": "logout+jwt"}, {"typ": "secevent+jwt"}])
def test_a_token_of_another_kind_opens_nothing(realm: Realm, header: dict[str, Any]) -> None:
    head = encoded({"alg": "RS256", "kid": realm.key.kid, **header})
    _, body, signature = realm.token().split(".")
    assert realm.send(f"{head}.{body}.{signature}") == (401, "access.token")
    if "crit" not in header:
        assert realm.send(realm.token(header=header)) == (401, "access.token")


@pytest.mark.parametrize(
    "token", ["a.b.c", "..", "....", "e30.e30.e30", "bnVsbA.e30.", "W10.e30.x", "%.%.%", "x" * 20_000 + ".e30.x"]
)
def test_what_is_no_token_opens_nothing(realm: Realm, token: str) -> None:
    assert realm.send(token) == (401, "access.token")


@pytest.mark.parametrize("payload", [b"null", b"[]", b"7", b"{", b"\xff"])
def test_claims_that_are_none_open_nothing(realm: Realm, payload: bytes) -> None:
    assert realm.send(signed({"alg": "RS256", "kid": realm.key.kid}, payload, realm.key)) == (401, "access.token")


# keys


def test_a_new_key_is_looked_for_and_not_for_every_token(realm: Realm) -> None:
    assert realm.send(realm.token())[0] == 200
    assert realm.issuer.asked == ["/.well-known/openid-configuration", "/keys"]
    for _ in range(5):
        assert realm.send(realm.token(RSAKey.generate_key(2048, {"kid": "unknown"}))) == (401, "access.token")
    assert len(realm.issuer.asked) == 2, "looked at a moment ago"
    rotated = realm.issuer.new_key()
    realm.later(31)
    assert realm.send(realm.token(rotated))[0] == 200
    assert len(realm.issuer.asked) == 4
    assert realm.send(realm.token())[0] == 200, "the old one is still the issuer's"
    realm.issuer.keys.pop(0)
    realm.later(601)
    assert realm.send(realm.token()) == (401, "access.token"), "a key the issuer took back"
    assert realm.send(realm.token(rotated))[0] == 200


def test_a_token_that_names_no_key_is_taken_if_only_one_can_have_signed(realm: Realm) -> None:
    unnamed = realm.token(header={"kid": None})
    assert realm.send(unnamed)[0] == 200
    realm.issuer.new_key(ECKey, "P-256")
    realm.issuer.new_key(alg="PS256")
    realm.later(601)
    assert realm.send(unnamed)[0] == 200, "only one of this kind and for this algorithm"
    realm.issuer.new_key()
    realm.later(601)
    assert realm.send(unnamed) == (401, "access.token")


def test_while_the_issuer_is_away_known_keys_are_believed_for_a_day(realm: Realm) -> None:
    assert realm.send(realm.token())[0] == 200
    realm.issuer.away = True
    realm.later(3600)
    assert realm.send(realm.token())[0] == 200
    assert realm.send(realm.token(RSAKey.generate_key(2048, {"kid": "unknown"}))) == (503, "oidc.away"), "who knows"
    realm.later(STALE_SECONDS)
    assert realm.send(realm.token()) == (503, "oidc.away")
    realm.issuer.away = False
    realm.later(31)
    assert realm.send(realm.token())[0] == 200


@pytest.mark.parametrize(
    "trouble",
    [
        {"away": True},
        {"described": {"issuer": "https://elsewhere.example.cn"}},
        {"described": {"jwks_uri": "http://keys.example.cn/keys"}},
        {"described": {"jwks_uri": "file:///etc/passwd"}},
        {"described": {"jwks_uri": None}},
        {"described": {"jwks_uri": "https://["}},
        {"described": {"jwks_uri": "http://127.0.0.1:1/keys"}},
        {"body": b"{"},
        {"body": b"[]"},
        {"body": b'{"keys": 7}'},
        {"body": b" " * (ANSWER_BYTES_MAX + 1)},
    ],
)
def test_an_issuer_that_does_not_answer_as_one_is_away(realm: Realm, trouble: dict[str, Any]) -> None:
    for name, value in trouble.items():
        setattr(realm.issuer, name, value)
    answer = realm.edge.send(
        "POST", "/graphql", json={"query": ME}, headers={"Authorization": f"Bearer {realm.token()}"}
    )
    assert (answer.status_code, answer.json()["errors"][0]["extensions"]["code"]) == (503, "oidc.away")
    assert int(answer.headers["retry-after"]) > 0
    assert realm.agent.ask(ME), "tokens of our own do not need the issuer"


def test_ours_are_served_while_many_wait_for_the_issuer(realm: Realm) -> None:
    """However many come at once with unknown keys, the issuer is asked once."""
    token = realm.token()
    with ThreadPoolExecutor(8) as together:
        said = [f.result()[0] for f in [together.submit(realm.send, token) for _ in range(8)]]
    assert said == [200] * 8
    assert realm.issuer.asked == ["/.well-known/openid-configuration", "/keys"]


# settings


@pytest.mark.parametrize(
    "said",
    [
        {"oidc_audience": None},
        {"oidc_issuer": "http://login.example.cn"},
        {"oidc_issuer": "login.example.cn"},
        {"oidc_algorithms": "none"},
        {"oidc_algorithms": "RS256,HS256"},
        {"oidc_algorithms": ""},
    ],
)
def test_an_issuer_is_set_up_safely_or_not_at_all(issuer: Issuer, said: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        trusting(issuer, **said)
    assert Oidc(trusting(issuer, oidc_algorithms="RS256, ES256"))
    assert SETTINGS.oidc_algorithms == ("RS256", "ES256", "EdDSA")
