"""The REST contract over a real socket: the cases of contract.yaml, and what does not fit in a table."""

import asyncio
import gzip
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from amalgam8.clients.http import Answer
from amalgam8.web.auth import Auth, Trusted
from tests.registry.kit import Running, running

TABLE = yaml.safe_load((Path(__file__).parent / "contract.yaml").read_text())
REGISTRATIONS: dict[str, Any] = TABLE["registrations"]
ONE = REGISTRATIONS["a"]


@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "by ASGI"])
@pytest.mark.parametrize("case", TABLE["cases"], ids=lambda case: case["name"])
async def test_the_contract(case: dict[str, Any], at_once: bool) -> None:
    async with running(capacity=case.get("capacity", -1), at_once=at_once) as registry:
        ids = {}
        for name in case.get("given", ()):
            answer = await registry.ask("POST", "/api/v1/instances", REGISTRATIONS[name])
            ids[f"${name}"] = {"id": answer.json()["id"]}
        for step in case["steps"]:
            await check(registry, step, ids)


async def check(registry: Running, step: dict[str, Any], ids: dict[str, Any]) -> None:
    await registry.pass_time(step.get("after", 0))
    method, path = step["ask"].split(" ", 1)
    body = step["raw"].encode() if "raw" in step else step.get("body")
    answer = await registry.ask(method, path, body, step.get("headers"))
    assert answer.status == step["status"], (step, answer)
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    assert answer.headers["vary"] == "Accept-Encoding"
    assert answer.headers["sd-request-id"] == answer.headers["request_id"] == answer.headers["a8-request-id"]
    if "location" in step:
        assert answer.headers["location"] == step["location"]
    if "error" in step:
        error = answer.json()
        assert set(error) == {"Error", "code", "request_id"}
        assert error["code"] == step["error"]
        assert error["Error"]
        assert error["request_id"] == answer.headers["sd-request-id"]
    if "exactly" in step:
        found = answer.json() if answer.body else ""
        assert found == step["exactly"], step
    if "answer" in step:
        expected = msgspec.json.decode(
            re.sub(r'"(\$\w)"', lambda one: msgspec.json.encode(ids[one[1]]).decode(), _json(step["answer"]))
        )
        assert holds(answer.json(), expected), (step, answer.json())


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def holds(found: Any, expected: Any) -> bool:
    """Whether ``found`` has all that is expected: members of objects, elements of lists in any order."""
    if isinstance(expected, dict):
        return isinstance(found, dict) and all(
            name in found and holds(found[name], value) for name, value in expected.items()
        )
    if isinstance(expected, list):
        return len(found) == len(expected) and all(
            any(holds(one, each) for one in found) for each in expected
        )
    return bool(found == expected)


async def raw(port: int, request: bytes) -> tuple[bytes, bytes]:
    """Head and body of the answer to bytes on a connection of their own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(10):
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            found = re.search(rb"content-length: (\d+)", head)
            return head, await reader.readexactly(int(found[1])) if found else b""
    finally:
        writer.close()


async def test_head_is_refused_without_a_body_and_the_connection_goes_on() -> None:
    async with running() as registry:
        reader, writer = await asyncio.open_connection("127.0.0.1", registry.port)
        async with asyncio.timeout(10):
            writer.write(b"HEAD /api/v1/services HTTP/1.1\r\nHost: x\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            following = await reader.readuntil(b"\r\n\r\n")
        writer.close()
    assert head.startswith(b"HTTP/1.1 405")
    assert following.startswith(b"HTTP/1.1 200")


async def test_metadata_comes_back_byte_for_byte() -> None:
    sent = b'{"a" : [1,\n\t2.50, "\\u00e9"],  "b":null}'
    async with running() as registry:
        body = msgspec.json.encode({**ONE, "metadata": msgspec.Raw(sent)})
        identity = (await registry.ask("POST", "/api/v1/instances", body)).json()["id"]
        for path in (f"/api/v1/instances/{identity}", "/api/v1/instances", "/api/v1/services/reviews"):
            assert b'"metadata":' + sent in (await registry.ask("GET", path)).body
        answer = await registry.ask("GET", "/api/v1/instances?fields=metadata")
        assert b'"metadata":' + sent in answer.body


@pytest.mark.parametrize(
    ("accept", "compressed"),
    [
        ("gzip", True),
        ("deflate, gzip", True),
        ("gzip;q=0.5", True),
        ("gzip;q=0", False),
        ("br", False),
        ("", False),
    ],
)
async def test_gzip_where_it_is_asked_for(accept: str, compressed: bool) -> None:
    async with running() as registry:
        await registry.ask("POST", "/api/v1/instances", ONE)
        answer = await registry.ask("GET", "/api/v1/services/reviews", headers={"Accept-Encoding": accept})
        empty = await registry.ask("GET", "/", headers={"Accept-Encoding": accept})
    assert (answer.headers.get("content-encoding") == "gzip") is compressed
    body = gzip.decompress(answer.body) if compressed else answer.body
    assert msgspec.json.decode(body)["service_name"] == "reviews"
    assert "content-encoding" not in empty.headers
    assert empty.body == b""


async def test_a_request_id_is_taken_over() -> None:
    async with running() as registry:
        answer = await registry.ask("GET", "/nope", headers={"A8-Request-Id": "mine-1"})
        strange = await registry.ask("GET", "/nope", headers={"A8-Request-Id": "x" * 500})
    assert answer.headers["sd-request-id"] == answer.json()["request_id"] == "mine-1"
    assert len(strange.headers["sd-request-id"]) == 36


async def test_a_body_over_the_limit_is_refused_with_the_limit() -> None:
    async with running() as registry:
        answer = await registry.ask("POST", "/api/v1/instances", b'"' + b"x" * 2_000_000 + b'"')
        again = await registry.ask("GET", "/api/v1/services")
    assert (answer.status, answer.json()["code"]) == (413, "body_too_large")
    assert "65536" in answer.json()["Error"]
    assert again.status == 200


async def test_a_chunked_body_over_the_limit_is_refused() -> None:
    chunk = b"4000\r\n" + b"x" * 0x4000 + b"\r\n"
    async with running() as registry:
        head, body = await raw(
            registry.port,
            b"POST /api/v1/instances HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk * 5,
        )
    assert head.startswith(b"HTTP/1.1 413")
    assert b"body_too_large" in body


async def test_without_a_host_header_links_name_the_server() -> None:
    body = msgspec.json.encode(ONE)
    async with running() as registry:
        _, answer = await raw(
            registry.port,
            b"POST /api/v1/instances HTTP/1.0\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(body), body),
        )
        links = msgspec.json.decode(answer)["links"]
        assert links["self"] == f"http://127.0.0.1:{registry.port}/api/v1/instances/5f940f0ddee732bb"


@pytest.mark.parametrize("host", ["registry:8080", 'a"b\\c', "a%db%b", "é"])
async def test_links_name_the_server_as_the_client_does(host: str) -> None:
    body = msgspec.json.encode(ONE)
    async with running() as registry:
        head, answer = await raw(
            registry.port,
            b"POST /api/v1/instances HTTP/1.1\r\nHost: %b\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (host.encode("latin-1"), len(body), body),
        )
    here = f"http://{host}/api/v1/instances/5f940f0ddee732bb"
    assert f"location: {here}\r\n".encode("latin-1") in head
    assert msgspec.json.decode(answer) == {
        "id": "5f940f0ddee732bb",
        "ttl": 60,
        "links": {"self": here, "heartbeat": f"{here}/heartbeat"},
    }


async def test_uptime_tells_what_it_is_and_how_much_there_is() -> None:
    async with running() as registry:
        await registry.ask("POST", "/api/v1/instances", ONE)
        await registry.pass_time(59)
        properties = (await registry.ask("GET", "/uptime")).json()["UPTIME"]["properties"]
    assert properties["uptime"] == "59s"
    assert (properties["instances"], properties["revision"]) == (1, 1)
    assert properties["build_goversion"].startswith("python3")


@pytest.mark.parametrize(
    "path",
    ["services/reviews", "instances?service_name=reviews", "instances?service_name=reviews&fields=ttl,tags"],
)
async def test_what_was_answered_before_is_never_answered_again_once_it_is_untrue(path: str) -> None:
    async with running() as registry:

        async def ids() -> list[str]:
            answers = [await registry.ask("GET", f"/api/v1/{path}") for _ in range(2)]
            if answers[0].status == 200:
                assert answers[0].body == answers[1].body
            seen.append(answers[0].body)
            return sorted(one["id"] for one in answers[0].json().get("instances", ()))

        seen: list[bytes] = []
        a, b = [
            (await registry.ask("POST", "/api/v1/instances", {**ONE, "endpoint": at})).json()["id"]
            for at in ({"type": "http", "value": f"10.0.0.1:{port}"} for port in (1, 2))
        ]
        assert await ids() == sorted((a, b))
        await registry.pass_time(10)
        await registry.ask("PUT", f"/api/v1/instances/{a}/heartbeat")
        assert await ids() == sorted((a, b))
        await registry.ask("PUT", "/api/v1/heartbeats", {"ids": [b]})
        await ids()
        again = {**ONE, "endpoint": {"type": "http", "value": "10.0.0.1:1"}, "tags": ["v9"], "ttl": 60}
        await registry.ask("POST", "/api/v1/instances", again)
        assert await ids() == sorted((a, b))
        assert b"v9" in seen[-1]
        await registry.ask("DELETE", f"/api/v1/instances/{b}")
        assert await ids() == [a]
        await registry.pass_time(61)
        assert await ids() == []
        shows_heartbeats = "fields" not in path
        assert len(set(seen)) == (6 if shows_heartbeats else 4)


async def test_another_tenants_answer_is_not_kept_for_this_one() -> None:
    async with running(auth=Auth([Trusted(admin=False)])) as registry:
        for tenant in ("a", "b"):
            who = {"Authorization": f"Bearer {tenant}"}
            await registry.ask("POST", "/api/v1/instances", {**ONE, "metadata": tenant}, who)
        for tenant in ("a", "b", "a"):
            who = {"Authorization": f"Bearer {tenant}"}
            for path in ("services/reviews", "instances?service_name=reviews"):
                found = (await registry.ask("GET", f"/api/v1/{path}", headers=who)).json()["instances"]
                assert [one["metadata"] for one in found] == [tenant]


async def test_requests_at_once_are_all_answered() -> None:
    async with running() as registry:

        async def one(number: int) -> Answer:
            body = {"service_name": f"s{number % 7}", "endpoint": {"type": "http", "value": f"h:{number}"}}
            return await registry.ask("POST", "/api/v1/instances", body)

        answers = await asyncio.gather(*(one(number) for number in range(1, 201)))
        assert {answer.status for answer in answers} == {201}
        assert len((await registry.ask("GET", "/api/v1/instances")).json()["instances"]) == 200


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/api/v1/instances", "GET, POST"),
        ("/api/v1/instances/x", "DELETE, GET"),
        ("/api/v1/heartbeats", "PUT"),
        ("/uptime", "GET"),
    ],
)
async def test_a_405_says_what_is_allowed(path: str, allowed: str) -> None:
    async with running() as registry:
        answer = await registry.ask("PATCH", path)
        missing = await registry.ask("PATCH", "/nope")
    assert (answer.status, answer.headers["allow"]) == (405, allowed)
    assert "allow" not in missing.headers
