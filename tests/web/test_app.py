"""The application over a real socket: what it adds to every handler."""

import asyncio
import contextlib
import gzip
import logging
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from amalgam8.clients.http import Http
from amalgam8.model.errors import InvalidQuery, RuleExists
from amalgam8.web.app import Api, Served, json_response, request_id_of
from amalgam8.web.errors import controller_style, registry_style
from amalgam8.web.serve import bind, serving
from tests.conftest import eventually

ANY = range(400, 600)


async def echo(request: Request) -> Response:
    body = await request.body()
    return json_response({"body": body.decode(), "id": request_id_of(request)})


async def refuse(_request: Request) -> Response:
    raise InvalidQuery("no such thing")


async def exists(_request: Request) -> Response:
    raise RuleExists("there already")


async def broken(_request: Request) -> Response:
    raise RuntimeError("secret detail")


async def empty(_request: Request) -> Response:
    return json_response(None, 204)


ROUTES = [
    Route("/echo", echo, methods=["GET", "POST"]),
    Route("/echo/{name}", echo, methods=["PUT"]),
    Route("/refuse", refuse),
    Route("/exists", exists),
    Route("/broken", broken),
    Route("/empty", empty),
]


class Running:
    def __init__(self, port: int, http: Http, records: list[Served]) -> None:
        self.port = port
        self.http = http
        self.records = records


@contextlib.asynccontextmanager
async def served(**options: Any) -> AsyncIterator[Running]:
    records: list[Served] = []
    given = {"style": registry_style, "body_limit": 1000, "served": records.append, **options}
    async with serving(Api(ROUTES, **given), bind("127.0.0.1", 0, "port")) as port:
        http = Http(f"http://127.0.0.1:{port}", timeout=10)
        try:
            yield Running(port, http, records)
        finally:
            await http.close()


@pytest.mark.parametrize(
    ("path", "status", "code", "text"),
    [
        ("/refuse", 400, "invalid_query", "no such thing"),
        ("/exists", 409, "rule_exists", "there already"),
        ("/nope", 404, "not_found", "there is nothing at /nope"),
        ("/echo/x", 405, "method_not_allowed", "/echo/x does not take this method"),
        ("/broken", 500, "internal", "Internal Server Error"),
    ],
)
async def test_errors_come_in_the_style_of_the_api(path: str, status: int, code: str, text: str) -> None:
    async with served() as app:
        answer = await app.http.request("GET", path, expect=ANY)
    assert answer.status == status
    assert answer.json() == {"Error": text, "code": code, "request_id": answer.headers["a8-request-id"]}
    assert "secret" not in answer.body.decode()
    async with served(style=controller_style) as app:
        answer = await app.http.request("GET", path, expect=ANY)
    assert answer.json()["error"] == f"error_{code}"


async def test_what_fails_is_logged_with_its_request_id(caplog: pytest.LogCaptureFixture) -> None:
    async with served() as app:
        answer = await app.http.request("GET", "/broken", expect=ANY)
    [record] = [one for one in caplog.records if one.name == "amalgam8.web"]
    assert record.levelno == logging.ERROR
    assert record.a8["request_id"] == answer.headers["a8-request-id"]  # type: ignore[attr-defined]
    assert record.a8["route"] == "/broken"  # type: ignore[attr-defined]


async def test_each_request_is_recorded_by_its_route() -> None:
    async with served() as app:
        await app.http.request("GET", "/echo")
        await app.http.request("PUT", "/echo/someone", b"{}")
        await app.http.request("GET", "/no/such/path", expect=ANY)
        await app.http.request("PATCH", "/echo", expect=ANY)
        await app.http.request("GET", "/refuse", expect=ANY)
    assert [(one.method, one.route, one.status) for one in app.records] == [
        ("GET", "/echo", 200),
        ("PUT", "/echo/{name}", 200),
        ("GET", "other", 404),
        ("UNSUPPORTED", "/echo", 405),
        ("GET", "/refuse", 400),
    ]
    assert all(one.seconds >= 0 and one.tenant == "" for one in app.records)


async def test_request_ids_are_echoed_or_made_and_never_forged() -> None:
    async with served(id_headers=("A8-Request-Id", "Other-Id")) as app:
        given = await app.http.request("GET", "/echo", headers={"A8-Request-Id": "abc"})
        made = [await app.http.request("GET", "/echo") for _ in range(2)]
        strange = await app.http.request("GET", "/echo", headers={"A8-Request-Id": "a b"})
    assert given.headers["a8-request-id"] == given.headers["other-id"] == given.json()["id"] == "abc"
    assert made[0].headers["a8-request-id"] != made[1].headers["a8-request-id"]
    assert strange.headers["a8-request-id"] != "a b"


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("application/json", 200),
        ("application/json; charset=utf-8", 200),
        ('application/json; charset="UTF-8"', 200),
        ("Application/JSON", 200),
        ("application/json; charset=latin1", 415),
        ("text/plain", 415),
        ("application/jsonx", 415),
        ("", 415),
    ],
)
async def test_a_body_must_be_json(kind: str, status: int) -> None:
    async with served() as app:
        answer = await app.http.request("POST", "/echo", b"{}", headers={"Content-Type": kind}, expect=ANY)
    assert answer.status == status


async def test_without_a_body_any_type_will_do() -> None:
    async with served() as app:
        answer = await app.http.request("GET", "/echo", headers={"Content-Type": "text/plain"})
    assert answer.status == 200


async def test_the_limit_of_a_body_is_inclusive() -> None:
    async with served() as app:
        whole = await app.http.request("POST", "/echo", b"x" * 1000)
        over = await app.http.request("POST", "/echo", b"x" * 1001, expect=ANY)
        again = await app.http.request("POST", "/echo", b"{}")
    assert len(whole.json()["body"]) == 1000
    assert (over.status, over.json()["code"]) == (413, "body_too_large")
    assert "1000 bytes" in over.json()["Error"]
    assert again.status == 200


async def test_gzip_only_where_it_is_on_and_asked_for() -> None:
    async with served(compress=True) as app:
        plain = await app.http.request("GET", "/echo")
        packed = await app.http.request("GET", "/echo", headers={"Accept-Encoding": "br, gzip"})
        error = await app.http.request("GET", "/refuse", headers={"Accept-Encoding": "gzip"}, expect=ANY)
        nothing = await app.http.request("GET", "/empty", headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in plain.headers
    assert msgspec.json.decode(gzip.decompress(packed.body))["body"] == ""
    assert int(packed.headers["content-length"]) == len(packed.body)
    assert msgspec.json.decode(gzip.decompress(error.body))["code"] == "invalid_query"
    assert (nothing.status, nothing.body, nothing.headers.get("content-encoding")) == (204, b"", None)
    assert {answer.headers["vary"] for answer in (plain, packed, error, nothing)} == {"Accept-Encoding"}
    async with served() as app:
        answer = await app.http.request("GET", "/echo", headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in answer.headers
    assert "vary" not in answer.headers


async def test_head_has_no_body_to_get_the_connection_out_of_step() -> None:
    async with served() as app:
        reader, writer = await asyncio.open_connection("127.0.0.1", app.port)
        async with asyncio.timeout(10):
            writer.write(b"HEAD /echo HTTP/1.1\r\nHost: x\r\n\r\nGET /echo HTTP/1.1\r\nHost: x\r\n\r\n")
            first = await reader.readuntil(b"\r\n\r\n")
            second = await reader.readuntil(b"\r\n\r\n")
        writer.close()
    assert first.startswith(b"HTTP/1.1 405")
    assert second.startswith(b"HTTP/1.1 200")


async def test_a_client_that_goes_away_amid_its_body_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    async with served() as app:
        _, writer = await asyncio.open_connection("127.0.0.1", app.port)
        writer.write(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf")
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        await app.http.request("GET", "/echo")
    assert not [one for one in caplog.records if one.levelno >= logging.WARNING]


async def test_handlers_hear_of_a_client_that_goes_away() -> None:
    gone: list[bool] = []

    async def wait(request: Request) -> Response:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        gone.append(True)
        return json_response(None)

    app = Api([Route("/wait", wait)], style=registry_style, body_limit=10)
    async with serving(app, bind("127.0.0.1", 0, "port")) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
        await writer.drain()
        writer.close()

        async def heard() -> bool:
            return bool(gone)

        await eventually(heard)
    assert gone == [True]


async def test_one_path_may_take_larger_bodies() -> None:
    async def size(request: Request) -> Response:
        return json_response(len(await request.body()))

    routes = [Route(path, size, methods=["PUT"]) for path in ("/small", "/large")]
    app = Api(routes, style=controller_style, body_limit=10, larger_bodies={"/large": 100})
    async with serving(app, bind("127.0.0.1", 0, "port")) as port:
        http = Http(f"http://127.0.0.1:{port}")
        answers = [
            (await http.request("PUT", path, b"1" * count, expect=[413])).status
            for path, count in (("/small", 11), ("/large", 100), ("/large", 101))
        ]
        await http.close()
    assert answers == [413, 200, 413]
