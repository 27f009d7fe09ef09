"""The protocol over real sockets: slow, half-sent, oversized and unread; and all ways to an answer alike."""

import asyncio
import contextlib
import re
import select
import socket
from collections.abc import AsyncIterator

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from amalgam8.model.errors import InstanceGone
from amalgam8.web import protocol, serve
from amalgam8.web.app import Api, Served, json_response
from amalgam8.web.errors import registry_style
from amalgam8.web.exchange import Answer, Asked, json_answer
from amalgam8.web.plain import PlainRoute
from amalgam8.web.serve import bind, serving
from tests.conftest import eventually

LARGE = 64 * 1024 * 1024
BODY_LIMIT = 10**6
JSON = b"Content-Type: application/json\r\n"
HEADER = b" HTTP/1.1\r\nHost: h\r\n"


async def echo(request: Request) -> Response:
    return json_response(await request.body() or b"{}")


async def large(_request: Request) -> Response:
    return Response(b"x" * LARGE)


async def plain_echo(asked: Asked) -> Answer:
    return json_answer(asked.body or b"{}")


async def plain_large(_asked: Asked) -> Answer:
    return Answer(b"x" * LARGE)


async def plain_name(asked: Asked) -> Answer:
    if asked.parameter == "gone":
        raise InstanceGone("it is gone")
    if asked.parameter == "broken":
        raise RuntimeError("secret detail")
    if asked.parameter == "waits":
        await asyncio.sleep(0)
    shown = {"name": asked.parameter, "query": asked.query.decode(), "host": asked.host()}
    return json_answer(shown, 201, ((b"location", b"/here"),))


def table(*, plain: bool, waits: bool = False) -> list[BaseRoute]:
    if not plain:
        return [Route("/", echo, methods=["GET", "POST"]), Route("/large", large)]
    return [
        PlainRoute("/", plain_echo, waits=waits),
        PlainRoute("/", plain_echo, method="POST", waits=waits),
        PlainRoute("/large", plain_large, waits=waits),
        PlainRoute("/name/{name}", plain_name, waits=waits),
    ]


@pytest.fixture(params=["by Starlette", "at once", "by ASGI"])
def app(request: pytest.FixtureRequest) -> Api:
    """The same application in each of the three ways in which a request is answered."""
    routes = table(plain=request.param != "by Starlette", waits=request.param == "by ASGI")
    return Api(routes, style=registry_style, body_limit=BODY_LIMIT)


@contextlib.asynccontextmanager
async def connected(app: Api) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    async with serving(app, bind("127.0.0.1", 0, "port")) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            async with asyncio.timeout(20):
                yield reader, writer
        finally:
            writer.close()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_WITHIN", 0.3)
    monkeypatch.setattr(protocol, "BODY_WITHIN", 0.3)
    monkeypatch.setattr(protocol, "UNREAD_FOR", 0.3)


async def test_a_half_sent_head_is_told_and_cut(app: Api) -> None:
    async with connected(app) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nHo")
        answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert b'{"Error":"the request did not arrive in time"' in answer


async def test_a_head_that_trickles_in_is_cut_too(app: Api) -> None:
    async with connected(app) as (reader, writer):
        answer = asyncio.ensure_future(reader.read())
        writer.write(b"GET / HTTP/1.1\r\n")
        while not answer.done():
            writer.write(b"X: y\r\n")
            await asyncio.wait([answer], timeout=0.05)
    assert b" 408 " in await answer


async def test_a_half_sent_body_is_told_and_cut(app: Api) -> None:
    async with connected(app) as (reader, writer):
        writer.write(
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
        )
        answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 408 ")


async def test_a_connection_without_a_word_is_closed_without_one(app: Api) -> None:
    async with connected(app) as (reader, _):
        assert await reader.read() == b""


async def test_a_second_request_is_watched_as_well(app: Api) -> None:
    async with connected(app) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"{}")
        await asyncio.sleep(0.5)  # longer than a head may take: idling between requests is allowed
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"{}")
        writer.write(b"GET / HT")
        assert (await reader.read()).startswith(b"HTTP/1.1 408 ")


async def test_after_an_early_answer_no_second_one_is_sent(app: Api) -> None:
    async with connected(app) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\nx")
        answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert answer.count(b"HTTP/1.1") == 1


async def test_an_endless_head_is_refused(app: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_WITHIN", 15.0)
    async with connected(app) as (reader, writer):
        answer = asyncio.ensure_future(reader.read())
        writer.write(b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * (protocol.HEAD_LIMIT // 6))
        while not answer.done():
            writer.write(b"X: y\r\n")
            await asyncio.wait([answer], timeout=0.02)
    assert (await answer).startswith(b"HTTP/1.1 431 ")


async def test_bytes_that_are_no_http_are_refused(app: Api) -> None:
    async with connected(app) as (reader, writer):
        writer.write(b"\x16\x03\x01 hello\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 400 ")


async def test_a_client_that_does_not_read_is_cut_off() -> None:
    cut = asyncio.Event()

    async def stubborn(_scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * LARGE, "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        cut.set()

    async with serving(stubborn, bind("127.0.0.1", 0, "port")) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=4096)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(15):
            await reader.readuntil(b"\r\n\r\n")
            await cut.wait()
        writer.close()


async def test_a_client_that_reads_slowly_is_served_to_the_end(app: Api) -> None:
    async with connected(app) as (reader, writer):
        writer.write(b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        size = 0
        pauses = 0
        while chunk := await reader.read(1 << 20):
            size += len(chunk)
            if size > (pauses + 1) * LARGE // 6:
                pauses += 1
                await asyncio.sleep(0.15)
    assert size > LARGE
    assert pauses >= 5


async def ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes
) -> tuple[bytes, bytes]:
    """Head and body of the answer."""
    writer.write(request)
    return await receive(reader)


async def receive(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head)
    assert length
    return head, await reader.readexactly(int(length[1]))


def alike(answer: tuple[bytes, bytes]) -> tuple[bytes, list[bytes], bytes]:
    """Status line, header in any order and body, without what differs between any two requests."""
    head, body = answer
    first, *fields = head.strip().split(b"\r\n")
    kept = [one for one in fields if not one.lower().startswith((b"a8-request-id", b"date"))]
    return first, sorted(kept), re.sub(rb'"request_id":"[^"]*"', b"", body)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /name/a" + HEADER + b"\r\n", b"201"),
        (b"GET /name/a?x=%20y" + HEADER + b"\r\n", b"201"),
        (b"GET /name/a%20b" + HEADER + b"\r\n", b"201"),
        (b"GET /name/a%2Fb" + HEADER + b"\r\n", b"404"),
        (b"GET http://h/name/a" + HEADER + b"\r\n", b"201"),
        (b"GET /name/a" + HEADER + b"Host: other\r\n\r\n", b"201"),
        (b"GET /name/a" + HEADER + b"Accept-Encoding: gzip\r\n\r\n", b"201"),
        (b"GET /name/a" + HEADER + b"Connection: close\r\n\r\n", b"201"),
        (b"GET /name/a HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\n\r\n", b"201"),
        (b"GET /name/a HTTP/1.0\r\nHost: h\r\nProxy-Connection: keep-alive\r\n\r\n", b"201"),
        (b"GET /name/a" + HEADER + b"Connection: keep-alive\r\n\r\n", b"201"),
        (b"GET /name/a?b?c" + HEADER + b"\r\n", b"201"),
        (b"GET /name/a" + HEADER + b"Upgrade: x\r\nConnection: upgrade\r\n\r\n", b"201"),
        (b"GET /name/gone" + HEADER + b"\r\n", b"410"),
        (b"GET /name/broken" + HEADER + b"\r\n", b"500"),
        (b"GET /name/" + HEADER + b"\r\n", b"404"),
        (b"PUT /name/a" + HEADER + b"Content-Length: 0\r\n\r\n", b"405"),
        (b"POST /" + HEADER + JSON + b"Content-Length: 2\r\n\r\n[]", b"200"),
        (b"POST /" + HEADER + b"Content-Length: 2\r\n\r\n[]", b"415"),
        (b"POST /" + HEADER + JSON + b"Content-Length: 1000001\r\n\r\n", b"413"),
        (b"POST /" + HEADER + JSON + b"Transfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n0\r\n\r\n", b"200"),
    ],
)
async def test_both_ways_lead_to_the_same_answer_and_record(request_: bytes, status: bytes) -> None:
    answers, records = [], []
    for waits in (False, True):
        served: list[Served] = []
        routes = table(plain=True, waits=waits)
        app = Api(routes, style=registry_style, body_limit=BODY_LIMIT, compress=True, served=served.append)
        async with connected(app) as (reader, writer):
            answers.append(alike(await ask(reader, writer, request_)))
        records.append([(one.method, one.route, one.status, one.tenant) for one in served])
    assert answers[0] == answers[1]
    assert records[0] == records[1]
    assert len(records[0]) == 1
    assert answers[0][0].split()[1] == status
    assert b"secret" not in answers[0][2]


async def test_what_is_sent_in_pieces_is_answered_as_what_comes_whole(app: Api) -> None:
    request = b"POST /" + HEADER + JSON + b'Content-Length: 8\r\n\r\n["abcd"]'
    async with connected(app) as (reader, writer):
        whole = alike(await ask(reader, writer, request))
        for place in range(1, len(request), 9):
            writer.write(request[:place])
            await writer.drain()
            await asyncio.sleep(0)
            assert alike(await ask(reader, writer, request[place:])) == whole
    assert whole[2] == b'["abcd"]'


async def test_many_requests_at_once_are_answered_in_their_order() -> None:
    routes = [*table(plain=True), PlainRoute("/slow/{name}", plain_name, waits=True)]
    app = Api(routes, style=registry_style, body_limit=BODY_LIMIT)
    asked = ["name/1", "slow/2", "name/3", "slow/waits", "slow/4", "name/5", "name/6"] * 30
    async with connected(app) as (reader, writer):
        writer.write(b"".join(b"GET /%b%b\r\n" % (one.encode(), HEADER) for one in asked))
        answered = [(await receive(reader))[1] for _ in asked]
    assert [re.findall(rb'"name":"(\w+)"', one) for one in answered] == [
        [one.partition("/")[2].encode()] for one in asked
    ]


async def test_who_asks_without_reading_is_not_answered_on_and_on() -> None:
    """Answers that are not taken do not pile up: the rest is not asked of the handler."""
    asked = 0

    async def count(_asked: Asked) -> Answer:
        nonlocal asked
        asked += 1
        return Answer(b"x" * 1_000_000)

    app = Api([PlainRoute("/", count)], style=registry_style, body_limit=10)
    async with connected(app) as (_, writer):
        transport = writer.transport
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()
        writer.write((b"GET /" + HEADER + b"\r\n") * 1000)

        async def some() -> bool:
            return asked > 0

        await eventually(some)
        for _ in range(20):
            await asyncio.sleep(0)
    assert asked < 100


async def test_a_route_that_waits_and_says_it_does_not_is_a_fault(caplog: pytest.LogCaptureFixture) -> None:
    app = Api(table(plain=True), style=registry_style, body_limit=10)
    async with connected(app) as (reader, writer):
        head, _ = await ask(reader, writer, b"GET /name/waits" + HEADER + b"\r\n")
    assert head.startswith(b"HTTP/1.1 500 ")
    assert "says it does not wait" in caplog.text


async def test_an_idle_connection_is_closed_and_one_in_use_is_not(
    app: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "IDLE_FOR", 1)
    async with connected(app) as (reader, writer):
        for _ in range(4):
            await ask(reader, writer, b"GET /" + HEADER + b"\r\n")
            await asyncio.sleep(0.4)
        assert await reader.read() == b""


async def test_only_what_does_not_wait_is_answered_without_a_task() -> None:
    tasks: list[bool] = []

    async def look(_asked: Asked) -> Answer:
        tasks.append(asyncio.current_task() is not None)
        return json_answer(None)

    routes = [PlainRoute("/", look), PlainRoute("/", look, method="PUT", waits=True)]
    async with connected(Api(routes, style=registry_style, body_limit=10)) as (reader, writer):
        await ask(reader, writer, b"GET /" + HEADER + b"\r\n")
        await ask(reader, writer, b"PUT /" + HEADER + b"Content-Length: 0\r\n\r\n")
    assert tasks == [False, True]


async def test_a_request_that_has_begun_is_answered_when_the_server_ends(
    app: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "BODY_WITHIN", 10)
    async with serving(app, bind("127.0.0.1", 0, "port")) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await ask(reader, writer, b"GET /" + HEADER + b"\r\n")
        writer.write(b"POST /" + HEADER + JSON + b"Content-Length: 2\r\n\r\n[")
        others_reader, other = await asyncio.open_connection("127.0.0.1", port)
        await ask(others_reader, other, b"GET /" + HEADER + b"\r\n")  # so that the half was heard
        other.close()
        asyncio.get_running_loop().call_later(0.2, writer.write, b"]")
    async with asyncio.timeout(10):
        assert (await receive(reader))[1] == b"[]"
        assert await reader.read() == b""
    writer.close()


async def test_others_have_their_turn_between_the_requests_of_one_client(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(protocol, "IN_A_ROW", 3)
    tasks: list[bool] = []

    async def look(_asked: Asked) -> Answer:
        tasks.append(asyncio.current_task() is not None)
        return json_answer(None)

    app = Api([PlainRoute("/", look)], style=registry_style, body_limit=10)
    async with connected(app) as (reader, writer):
        writer.write((b"GET /" + HEADER + b"\r\n") * 5)
        for _ in range(5):
            await receive(reader)
        await ask(reader, writer, b"GET /" + HEADER + b"\r\n")
    assert tasks == [False, False, False, True, True, False]


async def answered_before(monkeypatch: pytest.MonkeyPatch, *, held_up_to: int) -> list[bytes]:
    """What three clients are told that ask at once: how many of them had an answer by then."""
    monkeypatch.setattr(protocol, "HELD_UP_TO", held_up_to)
    loop, clients = asyncio.get_running_loop(), [socket.socket() for _ in range(3)]

    async def count(_asked: Asked) -> Answer:
        return json_answer(len(select.select(clients, [], [], 0)[0]))

    app = Api([PlainRoute("/", count)], style=registry_style, body_limit=10)
    async with serving(app, bind("127.0.0.1", 0, "port")) as port, asyncio.timeout(20):
        for one in clients:
            one.setblocking(False)
            await loop.sock_connect(one, ("127.0.0.1", port))
            one.send(b"GET /" + HEADER + b"\r\n")
            await loop.sock_recv(one, 4096)  # so that each is known to the server
        for one in clients:
            one.send(b"GET /" + HEADER + b"\r\n")
        answers = [await loop.sock_recv(one, 4096) for one in clients]
    for one in clients:
        one.close()
    return [answer.partition(b"\r\n\r\n")[2] for answer in answers]


async def test_short_answers_are_sent_when_all_that_came_was_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await answered_before(monkeypatch, held_up_to=4096) == [b"0", b"0", b"0"]


async def test_long_answers_are_sent_as_they_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sorted(await answered_before(monkeypatch, held_up_to=100)) == [b"0", b"1", b"2"]


@pytest.mark.parametrize(
    ("rest", "then"),
    [
        (b"\x16\x03\x01 hello\r\n\r\n", b"HTTP/1.1 400 "),
        (b"GET /nowhere HTTP/1.0\r\n\r\n", b"HTTP/1.1 404 "),
    ],
)
async def test_an_answer_goes_before_whatever_comes_of_what_was_sent_with_it(
    rest: bytes, then: bytes
) -> None:
    async with connected(Api(table(plain=True), style=registry_style, body_limit=10)) as (reader, writer):
        writer.write(b"GET /" + HEADER + b"\r\n" + rest)
        assert (await receive(reader))[1] == b"{}"
        assert (await reader.read()).startswith(then)


async def test_a_client_that_says_it_sends_no_more_is_answered() -> None:
    async with connected(Api(table(plain=True), style=registry_style, body_limit=10)) as (reader, writer):
        writer.write(b"GET /" + HEADER + b"\r\n")
        writer.write_eof()
        assert (await receive(reader))[1] == b"{}"
        assert await reader.read() == b""
