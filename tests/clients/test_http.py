"""Requests over real sockets, and every failure as one of our errors."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from amalgam8.clients import http as module
from amalgam8.clients.http import Http, Refusal, segment
from amalgam8.model.errors import BadAnswer, Conflict, Unreachable
from amalgam8.web.app import Api, json_response
from amalgam8.web.errors import controller_style, registry_style
from tests.conftest import free_port
from tests.wire import served

OK = b"HTTP/1.1 200 OK\r\n"


async def echo(request: Request) -> Response:
    return json_response(
        {
            "path": request.scope["raw_path"].decode(),
            "query": list(request.query_params.multi_items()),
            "body": (await request.body()).decode(),
            "type": request.headers.get("content-type", ""),
            "token": request.headers.get("authorization", ""),
        }
    )


async def conflict(_request: Request) -> Response:
    raise Conflict("that one is there already")


def app(style: object = controller_style) -> Api:
    methods = ["GET", "PUT", "POST", "DELETE"]
    return Api(
        [Route("/refused", conflict, methods=methods), Route("/{rest:path}", echo, methods=methods)],
        style=style,  # type: ignore[arg-type]
        body_limit=1000,
    )


@contextlib.asynccontextmanager
async def talking(api: Api | None = None, token: str = "", prefix: str = "") -> AsyncIterator[Http]:
    async with served(api or app()) as port:
        http = Http(f"http://127.0.0.1:{port}{prefix}", token)
        try:
            yield http
        finally:
            await http.close()


@contextlib.asynccontextmanager
async def saying(answer: bytes, *, close: bool = True) -> AsyncIterator[Http]:
    """A server that says ``answer`` to anything, and closes or stays silent."""

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
            if not close:
                await reader.read()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    async with await asyncio.start_server(say, "127.0.0.1", 0) as server:
        http = Http(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        try:
            yield http
        finally:
            await http.close()
            await asyncio.sleep(0)


async def test_values_travel_as_json_and_bytes_as_they_are() -> None:
    async with talking(token="s3cret") as http:
        answer = (await http.request("POST", "/a", {"x": [1]}, query=[("tag", "a b"), ("tag", "ü&")])).json()
        assert answer["body"] == '{"x":[1]}'
        assert answer["type"] == "application/json"
        assert answer["token"] == "Bearer s3cret"
        assert answer["query"] == [["tag", "a b"], ["tag", "ü&"]]
        assert (await http.request("PUT", "/a", b"[1]")).json()["body"] == "[1]"


async def test_no_token_no_header_no_body_no_type() -> None:
    async with talking() as http:
        answer = (await http.request("GET", "/a")).json()
        assert (answer["token"], answer["type"]) == ("", "")


async def test_a_segment_holds_anything() -> None:
    async with talking(prefix="/base/") as http:
        path = f"/x/{segment('a/b ?%c')}"
        assert (await http.request("GET", path)).json()["path"] == "/base/x/a%2Fb%20%3F%25c"


@pytest.mark.parametrize("style", [controller_style, registry_style])
async def test_a_refusal_says_status_reason_and_kind(style: object) -> None:
    async with talking(app(style)) as http:
        with pytest.raises(Refusal, match="that one is there already") as refused:
            await http.request("GET", "/refused")
        assert (refused.value.status, refused.value.kind) == (409, "conflict")
        assert (await http.request("GET", "/refused", expect=(409,))).status == 409


async def test_a_refusal_that_is_no_json_is_one_too() -> None:
    async with saying(b"HTTP/1.1 502 Bad\r\ncontent-length: 3\r\n\r\n<p>") as http:
        with pytest.raises(Refusal, match="status 502"):
            await http.request("GET", "/")


async def test_nobody_there() -> None:
    http = Http(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(Unreachable, match="cannot be reached"):
        await http.request("GET", "/")
    await http.close()


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 200 OK\r\ncontent-le", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx"]
)
async def test_cut_off(answer: bytes) -> None:
    async with saying(answer) as http:
        with pytest.raises(Unreachable):
            await http.request("GET", "/")


async def test_not_http() -> None:
    async with saying(b"-ERR unknown command\r\n") as http:
        with pytest.raises(Unreachable):
            await http.request("GET", "/")


async def test_too_late() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        http = Http(f"http://127.0.0.1:{mute.getsockname()[1]}")
        with pytest.raises(Unreachable, match=r"did not answer within 0.05 s"):
            await http.request("GET", "/", timeout=0.05)
        await http.close()


async def test_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_LIMIT", 10)
    async with saying(b"HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n12345678901") as http:
        with pytest.raises(BadAnswer, match="more than 10 bytes"):
            await http.request("GET", "/")


async def test_no_json_is_a_bad_answer() -> None:
    async with saying(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n<p>") as http:
        with pytest.raises(BadAnswer, match="is not JSON"):
            (await http.request("GET", "/")).json()


async def read(http: Http, into: list[bytes], silence: float) -> None:
    async with http.stream("/", silence=silence) as chunks:
        async for chunk in chunks:
            into += [chunk]


async def test_a_stream_gives_chunks_until_it_is_cut() -> None:
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    found: list[bytes] = []
    async with saying(head + b"3\r\nabc\r\n2\r\nde\r\n") as http:
        with pytest.raises(Unreachable):
            await read(http, found, silence=5.0)
    assert b"".join(found) == b"abcde"


async def test_a_silent_stream_ends() -> None:
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n"
    async with saying(head, close=False) as http:
        with pytest.raises(Unreachable, match=r"was silent for 0.05 s"):
            await read(http, [], silence=0.05)


async def test_a_refused_stream_says_why() -> None:
    async with talking() as http:
        with pytest.raises(Refusal, match="that one is there already"):
            async with http.stream("/refused", silence=5.0):
                pass
