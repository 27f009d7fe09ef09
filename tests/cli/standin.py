"""A server that answers what a test tells it to, over real sockets, and a way to run a8ctl against it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from amalgam8.cli.main import main
from amalgam8.model.errors import A8Error
from amalgam8.web.app import Api, json_response
from amalgam8.web.errors import controller_style
from amalgam8.web.serve import bind, serving


@dataclass(frozen=True)
class Seen:
    method: str
    path: str
    query: list[tuple[str, str]]
    body: Any
    authorization: str
    headers: dict[str, str]


@dataclass
class StandIn:
    """Answers ``answers[(method, path)]``: a value, an A8Error or a whole Response."""

    url: str = ""
    answers: dict[tuple[str, str], Any] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)

    async def answer(self, request: Request) -> Response:
        body = await request.body()
        self.seen.append(
            Seen(
                request.method,
                request.url.path,
                list(request.query_params.multi_items()),
                msgspec.json.decode(body) if body else None,
                request.headers.get("authorization", ""),
                dict(request.headers),
            )
        )
        found = self.answers[(request.method, request.url.path)]
        if isinstance(found, A8Error):
            raise found
        if isinstance(found, Response):
            return found
        return json_response(found)


@contextlib.asynccontextmanager
async def stand_in() -> AsyncIterator[StandIn]:
    found = StandIn()
    route = Route("/{path:path}", found.answer, methods=["GET", "POST", "PUT", "DELETE"])
    app = Api([route], style=controller_style, body_limit=1_000_000)
    async with serving(app, bind("127.0.0.1", 0, "port")) as port:
        found.url = f"http://127.0.0.1:{port}"
        yield found


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


class Cli:
    """Runs command lines against one server, which stands for both."""

    def __init__(self, server: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
        self.server = server
        self._capsys = capsys

    async def __call__(self, *argv: str) -> Ran:
        urls = ["--controller-url", self.server.url, "--registry-url", self.server.url]
        # In a thread, since the server that it asks runs in this loop.
        code = await asyncio.to_thread(main, [*urls, *argv])
        captured = self._capsys.readouterr()
        return Ran(code, captured.out, captured.err)
