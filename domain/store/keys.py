"""One key per person, wrapped by a master key (B20: destroying the key erases the person, not the history).

AES-256-GCM throughout: a subject's key encrypts that subject's fields in each event; the master key wraps the subject
keys at rest. The master key comes from a file or the environment and never touches the database.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from psycopg_pool import ConnectionPool

from domain.store.tenant import about, asked

NONCE_BYTES = 12
CACHED_KEYS_MAX = 50_000


class KeyProblem(Exception):
    """The master key is missing, malformed or not the one the keys were wrapped with."""


def master_key(file: Path, environment: Mapping[str, str] = os.environ, *, create: bool = False) -> bytes:
    """The 32-byte master key: `ANJUAN_MASTER_KEY` (base64) if set, else the file, made with mode 0600 if `create`.

    Raises KeyProblem when there is none, or when it is not 32 bytes of base64.
    """
    given = environment.get("ANJUAN_MASTER_KEY")
    if given is None and not file.exists() and create:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as out:
            out.write(base64.b64encode(os.urandom(32)) + b"\n")
            out.flush()
            os.fsync(out.fileno())
    if given is None and not file.exists():
        raise KeyProblem(
            f"There is no master key: set ANJUAN_MASTER_KEY or put 32 bytes of base64 into {file};"
            " `openssl rand -base64 32` makes them."
        )
    try:
        key = base64.b64decode(given if given is not None else file.read_bytes().strip(), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != 32:
        raise KeyProblem("The master key must be 32 bytes, written in base64.")
    return key


class Keys:
    """The subject keys of every institution, made on first use and kept unwrapped in memory while they are in use."""

    def __init__(self, pool: ConnectionPool, master: bytes) -> None:
        self._pool = pool
        self._master = AESGCM(master)
        self._name = hashlib.sha256(b"anjuan master key" + master).hexdigest()[:16]
        self._known: dict[tuple[str, UUID], AESGCM] = {}

    def existing(self, institution: str, subjects: Iterable[UUID]) -> dict[UUID, AESGCM]:
        """The keys of these people, by one query for those not in memory; a person whose key is gone is missing."""
        wanted = set(subjects)
        found = {s: key for s in wanted if (key := self._known.get((institution, s))) is not None}
        missing = list(wanted - found.keys())
        if missing:
            with self._pool.connection() as connection:
                rows = asked(
                    connection,
                    institution,
                    "SELECT subject, wrapped FROM subject_key WHERE institution = %s AND subject = ANY(%s)",
                    (institution, missing),
                )
            for subject, wrapped in rows:
                found[subject] = self._remember(institution, subject, self._unwrap(institution, subject, wrapped))
        return found

    def ensured(self, institution: str, subjects: Iterable[UUID]) -> dict[UUID, AESGCM]:
        """The keys of these people; those that have none yet are given one, durably, before anything is encrypted."""
        wanted = set(subjects)
        found = self.existing(institution, wanted)
        missing = sorted(wanted - found.keys())
        if missing:
            rows = [(institution, s, self._wrap(institution, s, AESGCM.generate_key(256)), self._name) for s in missing]
            with self._pool.connection() as lent, about(lent, institution) as connection, connection.cursor() as cursor:
                cursor.executemany(
                    "INSERT INTO subject_key (institution, subject, wrapped, master) VALUES (%s, %s, %s, %s)"
                    " ON CONFLICT DO NOTHING",
                    rows,
                )
            # another process may have been first: what is stored is the key
            found |= self.existing(institution, missing)
        return found

    def _remember(self, institution: str, subject: UUID, key: AESGCM) -> AESGCM:
        if len(self._known) >= CACHED_KEYS_MAX:
            self._known.clear()
        self._known[institution, subject] = key
        return key

    def _wrap(self, institution: str, subject: UUID, key: bytes) -> bytes:
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._master.encrypt(nonce, key, f"{institution}/{subject}".encode())

    def _unwrap(self, institution: str, subject: UUID, wrapped: bytes) -> AESGCM:
        try:
            return AESGCM(
                self._master.decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], f"{institution}/{subject}".encode())
            )
        except InvalidTag:
            raise KeyProblem(
                f"A person's key in {institution} cannot be unwrapped: it was wrapped with another master key."
            ) from None
