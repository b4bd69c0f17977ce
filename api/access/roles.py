"""What a person's posts let them ask for.

`QUERIES` and the lists beside it are the one place that says which post may ask what; who may decide is said once more,
exactly, by the decisions themselves (`Stamp.must_hold`), and separation of duties is the domain's alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from domain.credential import Scope
from domain.glass import Glass
from domain.kernel import Refused, Role

EVERYONE = frozenset(Role)
NO_CASES = frozenset({Role.ADMIN, Role.KEEPER, Role.HR})
"""Posts that do not see complaint cases by themselves: what patients say is on a need-to-know basis."""
CASE_READERS = EVERYONE - NO_CASES
CASE_WORKERS = EVERYONE - {Role.AUDITOR}
"""Posts that may act on a case at all; the auditor looks and never touches."""
OVERSEERS = frozenset({Role.AUDITOR, Role.ADMIN, Role.GM_OFFICE})
HISTORY_READERS = frozenset({Role.AUDITOR, Role.GM_OFFICE, Role.CS_CHIEF, Role.DEAN})
AUDITORS = frozenset({Role.AUDITOR, Role.ADMIN})
"""Posts that see who read whose personal data: the auditor, and the administrator, who gave out the tokens (B22)."""
EXPLORERS = frozenset({Role.AUDITOR, Role.ADMIN})
"""Posts the schema itself is shown to in production: introspection, and suggestions for misspelt names."""

QUERIES: dict[str, frozenset[Role]] = {
    "node": EVERYONE,  # and whoever may ask the ordinary question about what it names: see `api.node`
    "nodes": EVERYONE,
    "me": EVERYONE,
    "institution": EVERYONE,
    "complaint": CASE_READERS,
    "complaints": CASE_READERS,
    "complaintClocks": CASE_READERS,
    "complaintAsOf": CASE_READERS,
    "complaintBlame": CASE_READERS,
    "history": HISTORY_READERS,
    "complaintPolicy": EVERYONE,
    "staffTokens": EVERYONE,
    "viewLag": OVERSEERS,
    "personalReads": AUDITORS,
    "brokenGlasses": AUDITORS,
    "complaintHistory": CASE_READERS,
    "complaintsChanged": CASE_READERS,
    "historyAppended": HISTORY_READERS,
    "viewLagChanged": OVERSEERS,
}
"""Which posts may ask which question, or follow which subscription; what is not here may be asked by nobody."""


@dataclass(frozen=True)
class Principal:
    """Who asks: a staff member of one institution, with the posts they hold now, by a token of some scopes.

    `token_id` names the token in logs and to whoever revokes it; it opens nothing. `glasses` are those they broke
    (紧急查看); see `api.access.glass` for which of them are still open.
    """

    institution: str
    staff_id: UUID
    roles: frozenset[Role]
    scopes: frozenset[Scope]
    token_id: str
    glasses: tuple[Glass, ...] = ()


def must_be_in_scope(principal: Principal, scope: Scope) -> None:
    """Refuse with `access.scope` unless the token is for this."""
    if scope not in principal.scopes:
        raise Refused("access.scope", f"This token is not for that; use one with the scope {scope}.")


def must_be_allowed(principal: Principal, allowed: frozenset[Role], what: str) -> None:
    """Refuse with `access.role` unless one of the person's posts may do this."""
    if not principal.roles & allowed:
        raise Refused("access.role", f"Your posts do not allow {what}; ask {_some(sorted(allowed))}.")


def _some(roles: Sequence[Role]) -> str:
    return "somebody who may" if len(roles) > 4 or not roles else " or ".join(roles)
