"""The page to try GraphQL on, while developing: `GET /graphql` in a browser. It needs nothing but this process.

No package on the index carries GraphiQL or Altair with its assets for a program that is not Django; those that there
are load them from other sites. So the page is our own: plain modules, no build, nothing from elsewhere, which the
content security policy holds it to. It signs in as any client does and keeps its token in the tab's session storage.
"""

from __future__ import annotations

from functools import cache, partial
from importlib.resources import files

from fastapi import FastAPI
from starlette.responses import Response

MEDIA_TYPES = {"css": "text/css", "html": "text/html", "js": "text/javascript", "svg": "image/svg+xml"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none';"
    " form-action 'none'; frame-ancestors 'none'"
)


@cache
def assets() -> dict[str, bytes]:
    """The files of the page by name."""
    folder = files("api") / "explorer"
    return {one.name: one.read_bytes() for one in folder.iterdir() if one.name.rpartition(".")[2] in MEDIA_TYPES}


def asset(name: str) -> Response:
    """One file, with the policy that lets the page load nothing from elsewhere."""
    media_type = MEDIA_TYPES[name.rpartition(".")[2]]
    return Response(
        assets()[name],
        headers={
            "Content-Type": f"{media_type}; charset=utf-8",
            "Content-Security-Policy": POLICY,
            "Cache-Control": "no-cache",
        },
    )


def page() -> Response:
    """The page."""
    return asset("index.html")


def add_explorer(app: FastAPI) -> None:
    """Serve the files of the page. In development only."""
    for name in assets():
        app.add_api_route(f"/explorer/{name}", partial(asset, name), methods=["GET"])
