"""What nobody should send, to the control socket or as a request: nothing of it counts or reaches an app."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from amalgam8.model.errors import Unreachable
from amalgam8.sidecar.nginx.push import Head, exchange, push
from amalgam8.sidecar.nginx.render import line
from tests.sidecar.nginx.support import Backend, Client, Mesh, backends, simple

HEAD = b'{"generation":1000,"base":0,"removed":[]}\n'


def document(**members: Any) -> bytes:
    """A service with one instance, but for these members."""
    peer = {"id": "i", "address": "127.0.0.1", "port": 1, "tags": []}
    whole = {
        "name": "bad",
        "key": "bad",
        "targets": [{"service": "bad", "name": "bad", "tags": [], "peers": [peer]}],
        "routes": [{"slices": [{"target": 1, "weight": 1}]}],
    }
    return HEAD + json.dumps(whole | members).encode() + b"\n"


DOCUMENTS = {
    "nothing": b"",
    "no JSON": b"{\n",
    "cut short": document()[:-20],
    "a list": HEAD + b"[1]\n",
    "a number": HEAD + b"1e999\n",
    "no head": document()[len(HEAD) :],
    "a generation that is text": b'{"generation":"1","base":0}\n',
    "deep": HEAD + b"[" * 100_000 + b"\n",
    "zeroes": HEAD + b"\x00" * 1000 + b"\n",
    "no name": document(name=None),
    "a name that is an object": document(name={"a": 1}),
    "routes that are text": document(routes="x"),
    "a route without slices": document(routes=[{}]),
    "a target that is not there": document(routes=[{"slices": [{"target": 2, "weight": 1}]}]),
    "a weight below 0": document(routes=[{"slices": [{"target": 1, "weight": -1}]}]),
    "a port too high": document(
        targets=[{"service": "b", "name": "b", "peers": [{"id": "i", "address": "a", "port": 70000}]}]
    ),
    "a pattern that PCRE refuses": document(
        routes=[{"match": {"headers": [["x", "regex", "("]]}, "slices": [{"target": 1, "weight": 1}]}]
    ),
    "a pattern of an unknown kind": document(
        routes=[{"match": {"headers": [["x", "lua", "os.exit()"]]}, "slices": [{"target": 1, "weight": 1}]}]
    ),
    "a limit that is text": document(limits=[{"rule": "r", "limits": [{"requests": "many"}]}]),
}


async def works(mesh: Mesh, one: Backend) -> None:
    assert (await mesh.ask("/reviews/x")).call.name == one.name
    assert (await mesh.ask("/bad/x")).status == 404


@pytest.mark.parametrize("body", DOCUMENTS.values(), ids=DOCUMENTS)
async def test_a_document_that_cannot_be_read_is_refused_whole(
    mesh: Mesh, tmp_path: Path, body: bytes
) -> None:
    async with backends("one") as (one,):
        await mesh.follow(simple("reviews", one.peer()))
        status, answer = await exchange(tmp_path / "control.sock", "POST", "/document", body)
        assert status == 400, answer
        assert json.loads(answer)["error"]
        await works(mesh, one)


async def test_a_document_beyond_the_limit_is_refused_before_it_is_read(mesh: Mesh, tmp_path: Path) -> None:
    async with backends("one") as (one,):
        await mesh.follow(simple("reviews", one.peer()))
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "control.sock"))
        size = 32 * 1024 * 1024 + 1
        writer.write(f"POST /document HTTP/1.1\r\nhost: a\r\ncontent-length: {size}\r\n\r\n".encode())
        assert b" 413 " in await asyncio.wait_for(reader.readline(), 5)
        writer.close()
        await works(mesh, one)


async def test_who_stops_in_the_middle_keeps_nobody_waiting(mesh: Mesh, tmp_path: Path) -> None:
    async with backends("one") as (one,):
        await mesh.follow(simple("reviews", one.peer()))
        stopped = []
        for _ in range(3):
            _, writer = await asyncio.open_unix_connection(str(tmp_path / "control.sock"))
            writer.write(b"POST /document HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n" + HEAD)
            await writer.drain()
            stopped.append(writer)
        stopped.pop().close()
        answer = await push(tmp_path / "control.sock", Head(500), [line(simple("reviews", one.peer()))])
        assert answer.status == 200
        await works(mesh, one)
        for writer in stopped:
            writer.close()


async def test_the_control_socket_has_nothing_else(mesh: Mesh, tmp_path: Path) -> None:
    for method, path in (
        ("GET", "/document"),
        ("DELETE", "/document"),
        ("GET", "/../etc/passwd"),
        ("GET", "/x"),
    ):
        try:
            status, _ = await exchange(tmp_path / "control.sock", method, path)
        except Unreachable:
            continue
        assert status in (400, 404, 405)


SMUGGLED = b"GET /reviews/smuggled HTTP/1.1\r\nhost: mesh\r\n\r\n"
START = b"POST /reviews/x HTTP/1.1\r\nhost: mesh\r\n"
REQUESTS = {
    "both lengths": START + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "two lengths": START + b"content-length: 0\r\ncontent-length: 47\r\n\r\n" + SMUGGLED,
    "a length with a sign": START + b"content-length: +0\r\n\r\n" + SMUGGLED,
    "two equal lengths in one": START + b"content-length: 0, 0\r\n\r\n" + SMUGGLED,
    "an unknown coding": START + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "two codings": START
    + b"transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n"
    + SMUGGLED,
    "a coding with HTTP/1.0": b"POST /reviews/x HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
    + SMUGGLED,
    "a space before the colon": START + b"transfer-encoding : chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "a folded header": START + b"x: a\r\n transfer-encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "a header without a name": START + b": x\r\n\r\n" + SMUGGLED,
    "a zero byte": START + b"x: a\x00b\r\n\r\n" + SMUGGLED,
    "a carriage return alone": START + b"x: a\rtransfer-encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "two hosts": START + b"host: other\r\n\r\n" + SMUGGLED,
    "no host": b"GET /reviews/x HTTP/1.1\r\n\r\n" + SMUGGLED,
    "a malformed path and both lengths": b"POST /reviews/% HTTP/1.1\r\nhost: mesh\r\ncontent-length: 5\r\n"
    b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
}


@pytest.mark.parametrize("raw", REQUESTS.values(), ids=REQUESTS)
async def test_a_request_that_can_be_read_in_two_ways_reaches_no_app(mesh: Mesh, raw: bytes) -> None:
    async with backends("one") as (one,):
        await mesh.follow(simple("reviews", one.peer()))
        async with Client(mesh.port) as client:
            client.writer.write(raw)
            answer = await asyncio.wait_for(client.reader.read(), 5)
        assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 501 "))
        assert answer.count(b"HTTP/1.1 ") == 1
        assert one.calls == 0


CHUNKS = {
    "a size that is no number": b"x\r\n",
    "a size with a sign": b"+1\r\na\r\n0\r\n\r\n",
    "a size beyond all": b"f" * 20 + b"\r\n",
    "more than its size": b"1\r\nab\r\n0\r\n\r\n",
    "a size with a prefix": b"0x1\r\na\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("body", CHUNKS.values(), ids=CHUNKS)
async def test_a_body_in_odd_chunks_is_no_second_request(mesh: Mesh, body: bytes) -> None:
    async with backends("one") as (one,):
        await mesh.follow(simple("reviews", one.peer()))
        async with Client(mesh.port) as client:
            client.writer.write(START + b"transfer-encoding: chunked\r\n\r\n" + body + SMUGGLED)
            answer = await asyncio.wait_for(client.reader.read(), 5)
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert answer.count(b"HTTP/1.1 ") == 1
        assert one.calls <= 1


async def test_lines_that_end_oddly_come_to_the_app_as_they_should(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        await mesh.follow(simple("reviews", one.peer()))
        async with Client(mesh.port) as client:
            client.writer.write(b"GET /reviews/x HTTP/1.1\nhost: mesh\nx-a: 1\n\n")
            reply = await asyncio.wait_for(client.head(), 5)
            assert reply.status == 200
        assert one.calls == 1


@pytest.mark.parametrize(("count", "size"), [(500, 10), (1, 64 * 1024), (150, 1024)])
async def test_too_many_or_too_long_headers_reach_no_app(mesh: Mesh, count: int, size: int) -> None:
    async with backends("one") as (one,):
        await mesh.follow(simple("reviews", one.peer()))
        reply = await mesh.ask("/reviews/x", *((f"x-{number}", "x" * size) for number in range(count)))
        assert reply.status in (400, 431)
        assert one.calls == 0
        assert (await mesh.ask("/reviews/x")).status == 200
