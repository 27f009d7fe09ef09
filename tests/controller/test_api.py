"""The REST API over a real socket: routes, bodies, codes, filters, limits."""

import asyncio
import re
import uuid
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from amalgam8.clients.http import Answer
from amalgam8.controller.api import BODY_LIMIT
from tests.controller.rules import delay, document
from tests.controller.serving import Clock, Controller, running
from tests.model.test_rule_reader import REFUSED, WRONG_TYPES

CREATED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


@pytest.fixture
async def controller() -> AsyncIterator[Controller]:
    async with running(now=Clock()) as found:
        yield found


async def ask(controller: Controller, method: str, path: str, body: Any = None, **headers: str) -> Answer:
    return await controller.http.request(
        method,
        path,
        body,
        headers={name.replace("_", "-"): value for name, value in headers.items()},
        expect=range(400, 600),
    )


async def post(controller: Controller, *rules: Any) -> Answer:
    return await ask(controller, "POST", "/v1/rules", {"rules": rules})


async def listed(controller: Controller, path: str = "/v1/rules") -> list[str]:
    return [rule["id"] for rule in (await ask(controller, "GET", path)).json()["rules"]]


async def revision(controller: Controller) -> int:
    return int((await ask(controller, "GET", "/v1/rules")).json()["revision"])


def refused(answer: Answer, status: int, code: str) -> str:
    """Check the body of an error answer; returns its text."""
    found = answer.json()
    assert (answer.status, found["error"], found["code"]) == (status, f"error_{code}", code)
    assert found["request_id"] == answer.headers["a8-request-id"]
    assert set(found) == {"error", "description", "code", "request_id"}
    return str(found["description"])


async def test_health_needs_nothing(controller: Controller) -> None:
    answer = await ask(controller, "GET", "/health", Authorization="Bearer wrong")
    assert (answer.status, answer.body) == (200, b"")


async def test_create_then_get(controller: Controller) -> None:
    answer = await post(controller, document(id="mine", tags=["t"]), delay(priority=10))
    assert answer.status == 201
    first, second = answer.json()["ids"]
    assert first == "mine"
    assert str(uuid.UUID(second)) == second
    found = (await ask(controller, "GET", "/v1/rules")).json()
    assert found["revision"] == 1
    fault, route = found["rules"]
    assert CREATED.fullmatch(route["created"])
    assert route.pop("created") < fault.pop("created")
    assert route == {**document(id="mine", tags=["t"]), "priority": 0}
    assert fault.pop("expires") == "2030-03-17T18:46:40.000000Z"
    assert fault == {
        "id": second,
        "priority": 10,
        "destination": "ratings",
        "actions": [{"action": "delay", "duration": 7.0}],
    }


async def test_an_empty_controller(controller: Controller) -> None:
    assert (await ask(controller, "GET", "/v1/rules")).json() == {"rules": [], "revision": 0}
    for kind in ("routes", "actions"):
        assert (await ask(controller, "GET", f"/v1/rules/{kind}")).json() == {"services": {}}
        found = (await ask(controller, "GET", f"/v1/rules/{kind}/reviews")).json()
        assert found == {"rules": [], "revision": 0}


async def test_ids_come_in_the_order_of_the_request(controller: Controller) -> None:
    rules = [document(id=f"rule-{i}", priority=i) for i in range(20)]
    assert (await post(controller, *rules)).json()["ids"] == [rule["id"] for rule in rules]
    assert await listed(controller) == [f"rule-{i}" for i in reversed(range(20))]


async def test_post_of_an_existing_id(controller: Controller) -> None:
    await post(controller, document(id="a"))
    assert "a" in refused(await post(controller, document(id="b"), document(id="a")), 409, "rule_exists")
    assert await listed(controller) == ["a"]
    assert await revision(controller) == 1


async def test_put_replaces_whole_rules(controller: Controller) -> None:
    await post(controller, document(id="a", tags=["x"]), document(id="b"))
    answer = await ask(controller, "PUT", "/v1/rules", {"rules": [document("ratings", "v2", id="a")]})
    assert (answer.status, answer.body) == (200, b"")
    rules = (await ask(controller, "GET", "/v1/rules?id=a")).json()["rules"]
    assert rules[0]["destination"] == "ratings"
    assert "tags" not in rules[0]
    assert await listed(controller) == ["a", "b"]
    assert await revision(controller) == 2


async def test_put_of_what_is_not_there(controller: Controller) -> None:
    await post(controller, document(id="a"))
    body = {"rules": [document("ratings", id="a"), document(id="x")]}
    assert "x" in refused(await ask(controller, "PUT", "/v1/rules", body), 404, "rule_not_found")
    body = {"rules": [document()]}
    text = refused(await ask(controller, "PUT", "/v1/rules", body), 400, "invalid_rule")
    assert text.startswith("$.rules[0].id: ")
    assert await listed(controller, "/v1/rules/routes/ratings") == []
    assert await revision(controller) == 1


async def test_get_edit_put(controller: Controller) -> None:
    await post(controller, document(id="a"), delay(id="f"), delay(id="ever", ttl=0))
    read = (await ask(controller, "GET", "/v1/rules")).json()
    answer = await ask(controller, "PUT", "/v1/rules", read)
    assert answer.status == 200
    assert (await ask(controller, "GET", "/v1/rules")).json() == {**read, "revision": 2}


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ["a", "b", "c"]),
        ("?id=c&id=a", ["a", "c"]),
        ("?tag=x", ["a", "b"]),
        ("?tag=x&tag=y", ["a"]),
        ("?tag=z", []),
        ("?tag=", []),
        ("?destination=ratings&destination=reviews", ["a", "b", "c"]),
        ("?destination=ratings", ["c"]),
        ("?destination=ratings&tag=x", []),
        ("?id=a&tag=x&destination=reviews", ["a"]),
    ],
)
async def test_filters_of_get_and_delete(controller: Controller, query: str, found: list[str]) -> None:
    await post(
        controller, document(id="a", tags=["x", "y", "y"]), document(id="b", tags=["x"]), delay(id="c")
    )
    assert await listed(controller, f"/v1/rules{query}") == found
    answer = await ask(controller, "DELETE", f"/v1/rules{query}")
    assert (answer.status, answer.body) == (200, b"")
    assert await listed(controller) == [name for name in ("a", "b", "c") if name not in found]
    assert await revision(controller) == 2


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_an_unknown_id_in_a_filter(controller: Controller, method: str) -> None:
    await post(controller, document(id="a"))
    text = refused(await ask(controller, method, "/v1/rules?id=a&id=x"), 404, "rule_not_found")
    assert "x" in text
    assert await listed(controller) == ["a"]
    assert await revision(controller) == 1


async def test_a_misspelt_filter_deletes_nothing(controller: Controller) -> None:
    await post(controller, document(id="a"))
    text = refused(await ask(controller, "DELETE", "/v1/rules?destinaton=a"), 400, "invalid_query")
    assert "destinaton" in text
    assert await listed(controller) == ["a"]


async def test_by_destination(controller: Controller) -> None:
    await post(
        controller,
        document(id="a", tags=["x"]),
        document("ratings", id="b"),
        delay(id="c", tags=["x"]),
        document(id="d", priority=1),
    )
    routes = (await ask(controller, "GET", "/v1/rules/routes")).json()["services"]
    actions = (await ask(controller, "GET", "/v1/rules/actions")).json()["services"]
    assert {name: [rule["id"] for rule in rules] for name, rules in routes.items()} == {
        "reviews": ["d", "a"],
        "ratings": ["b"],
    }
    assert {name: [rule["id"] for rule in rules] for name, rules in actions.items()} == {"ratings": ["c"]}
    tagged = (await ask(controller, "GET", "/v1/rules/routes?tag=x")).json()["services"]
    assert [rule["id"] for rule in tagged.pop("reviews")] == ["a"]
    assert tagged == {}
    one = (await ask(controller, "GET", "/v1/rules/actions/ratings?id=whatever")).json()
    assert ([rule["id"] for rule in one["rules"]], one["revision"]) == (["c"], 1)


async def test_delete_by_destination(controller: Controller) -> None:
    await post(controller, document(id="a"), document("ratings", id="b"), delay(id="c"))
    for path, left in (("actions/ratings", ["a", "b"]), ("routes/reviews", ["b"]), ("routes/nobody", ["b"])):
        answer = await ask(controller, "DELETE", f"/v1/rules/{path}")
        assert (answer.status, answer.body) == (200, b"")
        assert await listed(controller) == left
    assert await revision(controller) == 4


async def test_put_by_destination(controller: Controller) -> None:
    await post(
        controller,
        document(id="a"),
        document(id="b"),
        document("ratings", id="other"),
        delay("reviews", id="f"),
    )
    nameless = {"route": {"backends": [{"tags": ["v2"]}]}}
    answer = await ask(controller, "PUT", "/v1/rules/routes/reviews", {"rules": [nameless, document(id="b")]})
    assert answer.status == 201
    new, kept = answer.json()["ids"]
    assert kept == "b"
    assert await listed(controller, "/v1/rules/routes/reviews") == ["b", new]
    assert await listed(controller) == ["b", "other", "f", new]
    bodies: list[dict[str, list[str]]] = [{"rules": []}, {}]
    for empty in bodies:
        answer = await ask(controller, "PUT", "/v1/rules/actions/reviews", empty)
        assert (answer.status, answer.json()) == (201, {"ids": []})
    assert await listed(controller) == ["b", "other", new]
    assert await revision(controller) == 4


async def test_put_by_destination_refuses_what_is_elsewhere(controller: Controller) -> None:
    await post(controller, document(id="a"), document("ratings", id="other"))
    path = "/v1/rules/routes/reviews"
    answer = await ask(controller, "PUT", path, {"rules": [document(id="other")]})
    assert "other" in refused(answer, 409, "rule_elsewhere")
    answer = await ask(controller, "PUT", path, {"rules": [document(), document("ratings")]})
    assert refused(answer, 400, "invalid_rule").startswith("$.rules[1].destination: ")
    answer = await ask(controller, "PUT", path, {"rules": [delay("reviews")]})
    assert refused(answer, 400, "invalid_rule").startswith("$.rules[0]: ")
    answer = await ask(controller, "PUT", "/v1/rules/routes/a%20b", {"rules": []})
    assert "white space" in refused(answer, 400, "invalid_query")
    assert await listed(controller) == ["a", "other"]
    assert await revision(controller) == 1


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "invalid_json"),
        (b"[]", "invalid_json"),
        (b'{"rules": 7}', "invalid_json"),
        (b"\xff\xfe", "invalid_json"),
        (b"", "invalid_json"),
        (b"[" * 200_000, "invalid_json"),
        (b"{}", "no_rules_provided"),
        (b'{"rules": []}', "no_rules_provided"),
        (b'{"rules": null}', "no_rules_provided"),
    ],
    ids=lambda value: value[:20] if isinstance(value, bytes) else value,
)
async def test_bodies_that_are_no_rules(controller: Controller, method: str, body: bytes, code: str) -> None:
    refused(await ask(controller, method, "/v1/rules", body), 400, code)
    assert await revision(controller) == 0


CASES = [
    *((rule, words, "invalid_rule") for rule, words in REFUSED.values()),
    *((rule, words, "invalid_json") for rule, words in WRONG_TYPES.values()),
]


async def test_every_invalid_rule_is_refused_with_its_path_and_nothing_is_stored(
    controller: Controller,
) -> None:
    await post(controller, document(id="a"))
    for rule, words, code in CASES:
        for method in ("POST", "PUT"):
            body = {"rules": [rule, document(id="good")]}
            assert words in refused(await ask(controller, method, "/v1/rules", body), 400, code)
    assert await listed(controller) == ["a"]
    assert await revision(controller) == 1


async def test_an_end_that_has_passed(controller: Controller) -> None:
    answer = await post(controller, document(), document(expires="2020-01-01T00:00:00Z"))
    assert refused(answer, 400, "invalid_rule").startswith("$.rules[1].expires: ")


async def test_limits_are_named(controller: Controller) -> None:
    body = b'{"rules":[' + b" " * 2_000_000 + b"]}"
    assert str(BODY_LIMIT) in refused(await ask(controller, "POST", "/v1/rules", body), 413, "body_too_large")
    small = {"destination": "d", "route": {"backends": [{"tags": ["v"]}]}}
    answer = await post(controller, *[small] * 10_000)
    assert "5000" in refused(answer, 413, "too_many_rules")
    assert await revision(controller) == 0
    assert len((await post(controller, *[small] * 5000)).json()["ids"]) == 5000


async def test_content_type(controller: Controller) -> None:
    for kind in ("application/x-www-form-urlencoded", "application/json; charset=latin-1", "text/plain"):
        answer = await ask(controller, "POST", "/v1/rules", b'{"rules":[]}', Content_Type=kind)
        refused(answer, 415, "unsupported_media_type")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "not_found"),
        ("GET", "/v1/rules/", 404, "not_found"),
        ("GET", "/v1/rules/routes/a/b", 404, "not_found"),
        ("PATCH", "/v1/rules", 405, "method_not_allowed"),
        ("POST", "/v1/rules/routes", 405, "method_not_allowed"),
        ("DELETE", "/v1/rules/routes", 405, "method_not_allowed"),
        ("POST", "/v1/rules/routes/reviews", 405, "method_not_allowed"),
        ("OPTIONS", "/v1/rules", 405, "method_not_allowed"),
        ("POST", "/v1/sidecars", 405, "method_not_allowed"),
    ],
)
async def test_what_is_not_there(
    controller: Controller, method: str, path: str, status: int, code: str
) -> None:
    refused(await ask(controller, method, path), status, code)


async def test_request_ids(controller: Controller) -> None:
    assert (await ask(controller, "GET", "/health", A8_Request_Id="mine")).headers["a8-request-id"] == "mine"
    made = (await ask(controller, "GET", "/health")).headers["a8-request-id"]
    assert str(uuid.UUID(made)) == made
    assert (
        "content-encoding" not in (await ask(controller, "GET", "/v1/rules", Accept_Encoding="gzip")).headers
    )


@pytest.mark.parametrize("path", ["/v1/rules", "/v1/rules/routes", "/v1/rules/actions/x", "/v1/sidecars"])
async def test_tokens(controller: Controller, path: str) -> None:
    assert (await ask(controller, "GET", path, Authorization="Bearer default")).status == 200
    answer = await ask(controller, "GET", path, Authorization="Bearer other")
    refused(answer, 401, "auth_not_authorized")
    refused(await ask(controller, "GET", path, Authorization="Basic x"), 401, "auth_header_malformed")


async def test_concurrent_writers(controller: Controller) -> None:
    answers = await asyncio.gather(*[post(controller, document(id=f"rule-{i}")) for i in range(60)])
    assert {answer.status for answer in answers} == {201}
    found = (await ask(controller, "GET", "/v1/rules")).json()
    assert (len(found["rules"]), found["revision"]) == (60, 60)
    assert len({rule["created"] for rule in found["rules"]}) == 60


async def test_the_typed_client_speaks_it(controller: Controller) -> None:
    client = controller.client
    (identity,) = (await client.create([document()])).ids
    await client.update([document("ratings", id=identity)])
    assert (await client.rules(ids=[identity])).rules[0]["destination"] == "ratings"
    assert list(await client.routes()) == ["ratings"]
    assert await client.actions() == {}
    assert await client.sidecars() == ()
    await client.delete(ids=[identity])
    assert msgspec.to_builtins(await client.rules()) == {"rules": (), "revision": 3}
