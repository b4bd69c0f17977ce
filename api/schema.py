"""The GraphQL schema: every question and every decision of the house. `schema.graphql` is printed from it."""

import strawberry
from graphql import GraphQLError
from strawberry.schema.config import StrawberryConfig
from strawberry.tools import merge_types
from strawberry.types import ExecutionContext

from api.clock import ClockQuery
from api.complaint import ComplaintQuery
from api.complaint_commands import ComplaintMutation
from api.credential import CredentialMutations, CredentialQuery
from api.glass import GlassMutation, GlassQuery
from api.history import HistoryQuery
from api.institution import InstitutionQuery
from api.live.subscription import LiveSubscription
from api.node import NodeQuery
from api.plan.extension import Documents, Planned
from api.plan.planner import Planner
from api.policy import PolicyMutation, PolicyQuery
from api.reads import ReadQuery
from api.scalars import SCALARS
from api.settings import Settings
from api.staff import StaffMutation

Query = merge_types(
    "Query",
    (
        NodeQuery, ComplaintQuery, CredentialQuery, ClockQuery, GlassQuery, HistoryQuery, InstitutionQuery, ReadQuery,
        PolicyQuery,
    ),
)  # fmt: skip
Mutation = merge_types(
    "Mutation", (ComplaintMutation, CredentialMutations, GlassMutation, StaffMutation, PolicyMutation)
)
Subscription = merge_types("Subscription", (LiveSubscription,))


class Schema(strawberry.Schema):
    """Strawberry's schema, but silent: what goes wrong is said to the log by the edge, without what people wrote."""

    def process_errors(self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None) -> None:
        """Nothing: see `api.app`."""


def build(settings: Settings, planner: Planner | None = None) -> Schema:
    """The schema. Whatever a document may not hold, `api.limits` refuses before it comes here.

    `planner` answers what it can; without one everything is resolved.
    """
    documents = Documents(settings.tokens_max)
    return Schema(
        query=Query,
        mutation=Mutation,
        subscription=Subscription,
        extensions=[lambda: Planned(documents, planner)],
        config=StrawberryConfig(scalar_map=SCALARS),
    )


def print_schema() -> str:
    """The schema in GraphQL's own language, as it is committed in `schema.graphql`."""
    return build(Settings()).as_str().rstrip() + "\n"


__all__ = ["Schema", "build", "print_schema"]
