"""The HTTP edge: `/graphql` for whoever has a token, `/livez` and `/readyz` for everybody, `/metrics`.

    app = create_app(settings, house)     # a FastAPI application; run it with any ASGI server

What went wrong is said as JSON in GraphQL's own shape: `{"errors": [{"message", "extensions": {"code", …}}]}`. What is
a fault of ours is masked: the answer names a correlation id, the log has the rest, never what people wrote.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime

from fastapi import FastAPI
from starlette.exceptions import HTTPException

from api.access.login import Desk
from api.access.read_log import ReadLog
from api.context import Reach, query_pool
from api.edge.admission import Admission, Admitting
from api.edge.edge import Edge
from api.edge.explorer import add_explorer
from api.edge.said import not_served, root
from api.edge.shell import Shell
from api.settings import Environment, Settings
from api.watch.gauges import Gauges, Sized
from api.watch.health import Health
from api.watch.meters import Meters
from api.watch.routes import Lookout
from api.watch.watch import Watch
from domain.store.casebook import House
from projections.views import VIEWS


def create_app(
    settings: Settings,
    house: House,
    *,
    wake: Callable[[], None] = lambda: None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> FastAPI:
    """The application on a store that is open and stays so. `wake` is told after each command: a runner may listen.

    `clock` says the one moment of each request.
    """
    pool = query_pool(settings, house)

    def woken() -> None:
        wake()
        edge.live.wake()

    read_log = ReadLog(house.conninfo, seconds=settings.read_log_seconds, flush=settings.read_log_flush)
    reach = Reach(settings, house, pool, read_log, woken)
    admission = Admission(settings)
    edge = Edge(reach, clock, admission)
    health, meters = Health(house, list(VIEWS.values())), Meters()
    pools = {"questions": pool, "commands": house.pool, "everywhere": house.everywhere}
    kept: dict[str, Sized] = {"answers": edge.answers}
    if edge.planner is not None:
        kept["plans"] = edge.planner.plans
    meters.watch(
        Gauges(
            admission,
            health,
            pools,
            kept,
            more={
                "read_log_waiting": ("Requests whose reads are not in the log yet.", lambda: read_log.waiting),
                "live_connections": ("Connections for subscriptions.", lambda: len(edge.live.hall)),
                "answers_bytes": ("Memory of the answers that are kept.", lambda: edge.answers.bytes),
            },
        ).collect
    )
    lookout = Lookout(settings, health, meters, edge.doorkeeper)
    desk = Desk(reach, edge.doorkeeper, clock)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        await pool.open(wait=True)
        read_log.open()
        try:
            yield
        finally:
            await edge.live.end()
            await read_log.close()
            await pool.close()

    app = FastAPI(
        title="Anjuan", openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False, lifespan=lifespan
    )
    app.state.read_log = read_log
    app.state.planner, app.state.live, app.state.answers = edge.planner, edge.live, edge.answers
    app.add_exception_handler(HTTPException, not_served)
    app.add_api_route("/", root, methods=["GET"])
    app.add_route("/graphql", edge.graphql, methods=["GET", "POST"])
    app.add_api_websocket_route("/graphql", edge.live.websocket)
    app.add_api_route("/livez", lookout.livez, methods=["GET"])
    app.add_api_route("/readyz", lookout.readyz, methods=["GET"])
    app.add_api_route("/metrics", lookout.metrics, methods=["GET"])
    app.state.doorkeeper = edge.doorkeeper
    if settings.environment is Environment.DEVELOPMENT:
        add_explorer(app)
    app.add_api_route("/sign-in", desk.sign_in, methods=["POST"])
    app.add_api_route("/sign-out", desk.sign_out, methods=["POST"])
    app.add_api_route("/password", desk.change_password, methods=["POST"])
    app.state.health, app.state.meters, app.state.admission = health, meters, admission
    # the last is the outermost
    app.add_middleware(Admitting, admission=admission)
    app.add_middleware(Shell, settings=settings)
    app.add_middleware(Watch, meters=meters)
    return app
