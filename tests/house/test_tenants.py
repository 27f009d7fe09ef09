"""Tenants never see each other: in no route of either server, no stream, no metric and no line of a log.

Generated from the route tables. What the tenant *green* is answered must not depend on whether the tenant
*blue* exists: everything is asked of two servers that differ in that only.
"""

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from typing import Any

import pytest
from tests.controller.serving import running as controller
from tests.registry.kit import running as registry
from tests.web.keys import SECRET, token

from amalgam8.clients.http import Answer, Http
from amalgam8.web.auth import Auth
from amalgam8.web.tokens import Jwt, secret_key

AUTH: Callable[[], Auth] = lambda: Auth([Jwt([secret_key(SECRET)])])  # noqa: E731
MARK = "blueish"
UUID = "123e4567-e89b-42d3-a456-426614174000"
ENDPOINT = {"type": "http", "value": f"{MARK}:1"}
INSTANCE = {"service_name": MARK, "endpoint": ENDPOINT, "tags": [MARK], "metadata": MARK}
EUREKA_INSTANCE = {"hostName": MARK, "ipAddr": "10.0.0.1", "vipAddress": MARK}
RULE = {"id": MARK, "destination": MARK, "tags": [MARK], "route": {"backends": [{"tags": [MARK]}]}}
REPORT = {
    "key": "",
    "service": MARK,
    "tags": [],
    "proxy": MARK,
    "plan": {"revision": 1, "hash": "x"},
    "registry": {"epoch": "", "revision": 0},
}
OPEN = {"/", "/uptime", "/health", "/metrics", "/openapi.json", "/v1/schema/rules.json"}
BLUE, GREEN = ({"Authorization": f"Bearer {token(name)}"} for name in ("blue", "green"))
ANY = range(400, 600)


class Side:
    """A served server."""

    def __init__(self, http: Http, port: int, routes: Any) -> None:
        self.http = http
        self.port = port
        self.table = [
            (method, route.path)
            for route in routes
            for method in sorted(route.methods or {"GET"})
            if method != "HEAD"
        ]

    async def ask(self, method: str, path: str, who: dict[str, str], body: Any = None) -> Answer:
        return await self.http.request(method, path, body, headers={"Host": "h", **who}, expect=ANY)


@contextlib.asynccontextmanager
async def served(name: str) -> AsyncIterator[Side]:
    if name == "registry":
        async with registry(auth=AUTH()) as found:
            yield Side(found.http, found.port, found.app.routes)
    else:
        async with controller(auth=AUTH()) as running:
            yield Side(running.http, running.port, running.app.routes)


async def populate(side: Side, name: str) -> None:
    if name == "registry":
        answer = await side.ask("POST", "/api/v1/instances", BLUE, INSTANCE)
    else:
        answer = await side.ask("POST", "/v1/rules", BLUE, {"rules": [RULE]})
    assert answer.status == 201


def concrete(path: str) -> str:
    """The path with what belongs to blue in its holes."""
    sidecars = path.startswith("/v1/sidecars")
    identity = UUID if sidecars else "e9c8b4d19ed5e3a1"
    for hole, value in (("{token}", "nobody"), ("{app}", MARK), ("{address}", MARK)):
        path = path.replace(hole, value)
    for hole, value in (("{id}", identity), ("{name}", MARK), ("{destination}", MARK), ("{revision}", "1")):
        path = path.replace(hole, value)
    return path


def has_token(path: str) -> bool:
    """Whether the path itself has a token, or stands for one; this one is not known."""
    return "/eureka" in path and "//" not in path


def body_for(method: str, path: str) -> Any:
    if method not in ("POST", "PUT") or path.endswith("/heartbeat"):
        return None
    if "/eureka" in path:
        return {"instance": EUREKA_INSTANCE} if method == "POST" else None
    if path == "/api/v1/instances":
        return INSTANCE
    if path == "/api/v1/heartbeats":
        return {"ids": ["e9c8b4d19ed5e3a1"]}
    if path in ("/v1/rollback", "/v1/confirm"):
        return {"revision": 1}
    if path == "/v1/explain":
        return {"destination": MARK}
    if path == "/v1/import":
        return {"form": 1, "revision": 0, "newest": 0, "rules": [], "written": {}}
    return REPORT if path.startswith("/v1/sidecars") else {"rules": [RULE]}


async def first_events(side: Side, path: str, who: dict[str, str]) -> bytes:
    """The beginning of a stream, up to the end of its snapshot."""
    query = [("id", UUID), ("service", MARK)] if path.startswith("/v1") else []
    seen = b""
    async with asyncio.timeout(10):
        async with side.http.stream(path, query=query, headers=who, silence=10) as chunks:
            async for chunk in chunks:
                seen += chunk
                if re.search(rb"event: snapshot\n.*\n\n", seen, re.DOTALL):
                    break
    return seen


def plain(data: bytes) -> bytes:
    """Without what differs between any two servers or requests."""
    data = re.sub(rb'"request_id":"[^"]*"', b"", data)
    data = re.sub(rb'"(epoch|key|versions__delta)":"[^"]*"', b"", data)
    data = re.sub(rb"<versions__delta>[0-9]*<", b"<", data)
    data = re.sub(rb'"[0-9-]{10}T[0-9:.]+Z"', b'"then"', data)
    return re.sub(rb"id: [0-9a-f]+\.", b"id: .", data)


async def table(name: str) -> list[tuple[str, str]]:
    async with served(name) as side:
        return side.table


@pytest.mark.parametrize("name", ["registry", "controller"])
async def test_every_route_needs_a_token_but_those_that_are_nobodys(name: str) -> None:
    async with served(name) as side:
        assert len(side.table) > 10
        for method, path in side.table:
            if path in OPEN:
                assert (await side.ask(method, path, {})).status == 200, path
                continue
            body = body_for(method, path)
            for who, code in (
                ({}, "auth_not_authorized" if has_token(path) else "auth_header_missing"),
                ({"Authorization": "Bearer nonsense"}, "auth_not_authorized"),
                ({"Authorization": f"Bearer {token('blue', 'x' * 32)}"}, "auth_not_authorized"),
                ({"Authorization": "Basic YTpi"}, "auth_header_malformed"),
            ):
                answer = await side.ask(method, concrete(path), who, body)
                assert (answer.status, answer.json()["code"]) == (401, code), (method, path)
                assert answer.headers["www-authenticate"].startswith('Bearer realm="amalgam8"')
            admin = {"Authorization": f"Bearer {token('admin')}"}
            answer = await side.ask(method, concrete(path), admin, body)
            assert (answer.status, answer.json()["code"]) == (400, "missing_namespace_header")
            assert answer.json().get("error", "missing_namespace_header") == "missing_namespace_header"


async def some_at_once(each: Iterable[Coroutine[None, None, None]]) -> None:
    """Let them run, eight at a time: every one has servers of its own, whose end takes a moment."""
    room = asyncio.Semaphore(8)

    async def one(what: Coroutine[None, None, None]) -> None:
        async with room:
            await what

    async with asyncio.TaskGroup() as tasks:
        for what in each:
            tasks.create_task(one(what))


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", ["registry", "controller"])
async def test_what_green_is_answered_does_not_depend_on_blue(name: str) -> None:
    await some_at_once([the_same(name, method, path) for method, path in await table(name)])


async def the_same(name: str, method: str, path: str) -> None:
    """What green is answered there with blue beside it as without, and blue keeps what it has."""
    async with served(name) as alone, served(name) as beside:
        await populate(beside, name)
        if path.endswith("/watch"):
            found = [plain(await first_events(side, path, GREEN)) for side in (alone, beside)]
            assert b"snapshot" in found[0]
            assert found[0] == found[1], path
            return
        if path == "/uptime":  # totals, for everybody: no names
            assert MARK.encode() not in (await beside.ask(method, path, GREEN)).body
            return
        answers = [
            await side.ask(method, concrete(path), GREEN, body_for(method, path)) for side in (alone, beside)
        ]
        if path == "/metrics":
            assert b'tenant="blue"' not in answers[1].body
            return
        assert answers[0].status == answers[1].status, (method, path)
        assert plain(answers[0].body) == plain(answers[1].body), (method, path)
        # And nothing that green did has changed what blue has.
        if name == "registry":
            seen = await beside.ask("GET", "/api/v1/instances", BLUE)
            assert [one["metadata"] for one in seen.json()["instances"]] == [MARK], (method, path)
        else:
            seen = await beside.ask("GET", "/v1/rules", BLUE)
            assert ([one["id"] for one in seen.json()["rules"]], seen.json()["revision"]) == ([MARK], 1)


@pytest.mark.timeout(180)
async def test_a_token_in_a_path_of_eurekas_is_one_tenants_as_well() -> None:
    """The same as above for clients that cannot send a header; what green writes is green's."""
    holes = [(method, path) for method, path in await table("registry") if "{token}" in path]
    assert len(holes) > 10
    await some_at_once([the_same_by_path(method, path) for method, path in holes])


async def the_same_by_path(method: str, path: str) -> None:
    async with served("registry") as alone, served("registry") as beside:
        answer = await beside.ask(
            "POST", f"/api/eureka/{token('blue')}/v2/apps/{MARK}", {}, {"instance": EUREKA_INSTANCE}
        )
        assert answer.status == 204
        mine = concrete(path.replace("{token}", token("green")))
        answers = [await side.ask(method, mine, {}, body_for(method, path)) for side in (alone, beside)]
        assert answers[0].status == answers[1].status, (method, path)
        assert plain(answers[0].body) == plain(answers[1].body), (method, path)
        for who, expected in ((BLUE, 1), (GREEN, int(method == "POST"))):
            seen = (await beside.ask("GET", "/api/v1/instances", who)).json()["instances"]
            assert len(seen) == expected, (method, path)


@pytest.mark.parametrize("name", ["registry", "controller"])
async def test_metrics_of_every_route_stand_under_the_tenant_that_asked(name: str) -> None:
    """No series of a tenant without its name, and no path, id or token in a label."""
    admin = {"Authorization": f"Bearer {token('admin')}"}
    async with served(name) as side:
        await populate(side, name)
        for method, path in side.table:
            if not path.endswith("/watch"):
                await side.ask(method, concrete(path), GREEN, body_for(method, path))
                if "{token}" in path:
                    mine = concrete(path.replace("{token}", token("green")))
                    await side.ask(method, mine, {}, body_for(method, path))
        await side.ask("GET", f"/nowhere/{MARK}", GREEN)
        shown = (await side.ask("GET", "/metrics", admin)).body.decode()
    assert MARK not in shown
    assert "eyJ" not in shown
    labels = re.findall(r"_requests_total{(.*?)} ", shown)
    seen = {
        found[1] for one in labels if 'tenant="green"' in one and (found := re.search('route="([^"]*)"', one))
    }
    of_a_tenant = {path for _, path in side.table if path not in OPEN and not path.endswith("/watch")}
    assert seen >= of_a_tenant, of_a_tenant - seen
    assert not [one for one in labels if 'tenant=""' in one and 'status="20' in one and not of_nobody(one)]


def of_nobody(labels: str) -> bool:
    return any(f'route="{path}"' in labels for path in OPEN)


@pytest.mark.parametrize("name", ["registry", "controller"])
async def test_a_stream_tells_of_its_own_tenant_only(name: str) -> None:
    path = "/api/v1/instances/watch" if name == "registry" else "/v1/plan/watch"
    query = [("id", UUID), ("service", "s")] if name == "controller" else []
    async with served(name) as side, asyncio.timeout(20):
        seen = b""
        async with side.http.stream(path, query=query, headers=GREEN, silence=10) as chunks:
            async for chunk in chunks:
                before, seen = seen, seen + chunk
                if b"snapshot" in seen and b"snapshot" not in before:
                    await populate(side, name)
                    write = ("POST", "/api/v1/instances") if name == "registry" else ("POST", "/v1/rules")
                    own: Any = {**INSTANCE, "service_name": "greenish", "tags": [], "metadata": None}
                    own["endpoint"] = {"type": "http", "value": "h:1"}
                    if name == "controller":
                        own = {
                            "rules": [{"destination": "greenish", "route": {"backends": [{"tags": ["v"]}]}}]
                        }
                    assert (await side.ask(*write, GREEN, own)).status == 201
                if b"event: delta" in seen and seen.endswith(b"\n\n"):
                    break
    assert b"greenish" in seen
    assert MARK.encode() not in seen
    assert re.search(rb'event: delta\n.*"revision":1[,}]', seen, re.DOTALL)


@pytest.mark.parametrize("name", ["registry", "controller"])
async def test_metrics_show_a_tenant_its_own_series_and_an_admin_all(name: str) -> None:
    async with served(name) as side:
        await populate(side, name)
        await side.ask("GET", "/api/v1/services" if name == "registry" else "/v1/rules", GREEN)
        admin = {"Authorization": f"Bearer {token('admin')}"}
        shown = {
            who: (await side.ask("GET", "/metrics", headers)).body.decode()
            for who, headers in (("blue", BLUE), ("green", GREEN), ("nobody", {}), ("admin", admin))
        }
        refused = await side.ask("GET", "/metrics", {"Authorization": "Bearer x"})
    assert refused.status == 401
    for who, text in shown.items():
        tenants = set(re.findall(r'tenant="([^"]+)"', text))
        assert tenants == {"nobody": set(), "admin": {"blue", "green"}}.get(who, {who})
        assert "process_resident_memory_bytes" in text
        assert MARK not in text


@pytest.mark.parametrize("name", ["registry", "controller"])
async def test_an_admin_acts_for_any_tenant(name: str) -> None:
    path = "/api/v1/instances" if name == "registry" else "/v1/rules"
    member = "instances" if name == "registry" else "rules"
    admin = {"Authorization": f"Bearer {token('admin')}"}
    async with served(name) as side:
        await populate(side, name)
        blue = await side.ask("GET", path, {**admin, "A8-Namespace": "blue"})
        green = await side.ask("GET", path, {**admin, "A8-Namespace": "green"})
        pretender = await side.ask("GET", path, {**GREEN, "A8-Namespace": "blue"})
    assert len(blue.json()[member]) == 1
    assert green.json()[member] == pretender.json()[member] == []


@pytest.mark.parametrize("name", ["registry", "controller"])
async def test_each_line_of_the_log_is_one_tenants(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """Tokens are in none, and what is blue's stands only where the line says that it is."""
    caplog.set_level(logging.DEBUG)
    async with served(name) as side:
        await populate(side, name)
        for method, path in side.table:
            if not path.endswith("/watch"):
                for who in (BLUE, GREEN, {"Authorization": f"Bearer {token('x', 'y' * 32)}"}):
                    await side.ask(method, concrete(path), who, body_for(method, path))
                if "{token}" in path:
                    for other in (token("green"), token("x", "y" * 32)):
                        mine = concrete(path.replace("{token}", other))
                        await side.ask(method, mine, {}, body_for(method, path))
            else:
                await first_events(side, path, GREEN)
    for record in caplog.records:
        line = f"{record.getMessage()} {getattr(record, 'a8', '')}"
        assert not re.search(r"eyJ[\w-]+\.", line)
        if MARK in line:
            assert getattr(record, "a8", {}).get("tenant") in ("blue", "green")
