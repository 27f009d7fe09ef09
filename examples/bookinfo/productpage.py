"""The product page: asks details and reviews, and shows what it gets.

`/` is the index, `/productpage` the page (`?format=json` for programs), `/login` and `/logout` set and clear
the `user` cookie. A part that does not come in time is left out; the page itself is always a 200. It refuses
to know where it is mounted: a gateway cuts off the first part of the path, so all links are relative.
"""

import asyncio
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import TypeVar
from urllib.parse import parse_qs, quote, unquote

import msgspec
from _app import Mesh, UnavailableError, serve, timeout_from
from _page import Details, Part, Review, product_page
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

T = TypeVar("T")

MAX_FORM = 4096  # bytes
MAX_NAME = 40  # characters
NOT_CACHED = {"Cache-Control": "no-store"}


@dataclass(frozen=True)
class ProductPage:
    mesh: Mesh
    layout: Template
    welcome: str
    details_timeout: float  # seconds for one attempt
    reviews_timeout: float

    async def page(self, request: Request) -> Response:
        details, reviews = await asyncio.gather(
            self.ask("/details/details", request, Details, self.details_timeout, attempts=1),
            self.ask("/reviews/reviews", request, dict[str, Review], self.reviews_timeout, attempts=2),
        )
        if request.query_params.get("format") == "json":
            parts = {"details": details.answer, "reviews": reviews.answer}
            known = {name: answer for name, answer in parts.items() if answer is not None}
            return JSONResponse(msgspec.to_builtins(known), headers=NOT_CACHED)
        user = unquote(request.cookies.get("user", ""))
        return HTMLResponse(product_page(self.layout, user, details, reviews), headers=NOT_CACHED)

    async def ask(
        self, path: str, request: Request, shape: type[T], timeout: float, attempts: int
    ) -> Part[T]:
        """Up to `attempts` calls of at most `timeout` seconds each; never raises for what the callee did."""
        start = time.monotonic()
        for attempt in range(1, attempts + 1):
            try:
                answer = await self.mesh.get(path, request, shape, timeout)
                return Part(answer, attempt, time.monotonic() - start)
            except UnavailableError as error:
                print(f"attempt {attempt} of {attempts}: {error}", file=sys.stderr, flush=True)
        return Part(None, attempts, time.monotonic() - start)

    async def index(self, request: Request) -> Response:
        if request.url.query == "open":
            # The index was asked for as `/productpage` of a gateway, without a slash at its end. Its link,
            # relative to that, has come back here instead of to the page, so show the way once more.
            return RedirectResponse("productpage/productpage", 302, headers=NOT_CACHED)
        return HTMLResponse(self.welcome, headers=NOT_CACHED)


async def login(request: Request) -> Response:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FORM:
            return Response(f"A form may have {MAX_FORM} bytes.\n", 413)
    name = parse_qs(body.decode("utf-8", "replace")).get("username", [""])[0].strip()[:MAX_NAME]
    response = back(request)
    if name:
        response.set_cookie("user", quote(name, safe=""), httponly=True, samesite="lax")
    return response


async def logout(request: Request) -> Response:
    response = back(request)
    response.delete_cookie("user", httponly=True, samesite="lax")
    return response


def back(request: Request) -> Response:
    """A redirect to where the user came from, if that is on this host; else to the page next to this one."""
    referer = request.headers.get("referer", "")
    here = [f"{scheme}://{request.headers.get('host')}" for scheme in ("http", "https")]
    is_here = any(referer == origin or referer.startswith(f"{origin}/") for origin in here)
    return RedirectResponse(referer if is_here else "productpage", 302, headers=NOT_CACHED)


def main() -> None:
    mesh = Mesh()
    folder = Path(__file__).parent
    product = ProductPage(
        mesh,
        layout=Template((folder / "productpage.html").read_text(encoding="utf-8")),
        welcome=(folder / "index.html").read_text(encoding="utf-8"),
        details_timeout=timeout_from("DETAILS_TIMEOUT", 1),
        reviews_timeout=timeout_from("REVIEWS_TIMEOUT", 3),
    )
    routes = [
        Route("/", product.index),
        Route("/productpage", product.page),
        Route("/login", login, methods=["POST"]),
        Route("/logout", logout),
    ]
    limits = f"{product.details_timeout:g} s for details, twice {product.reviews_timeout:g} s for reviews"
    print(f"productpage: waits up to {limits}", file=sys.stderr, flush=True)
    serve(routes, mesh)


if __name__ == "__main__":
    main()
