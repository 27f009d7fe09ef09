"""History, rollback, confirmation, declared sets, export and import over a real socket."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from amalgam8.clients.http import Answer
from amalgam8.controller import lapse
from amalgam8.controller.memory import MemoryStore
from amalgam8.model.caller import caller
from tests.controller.rules import delay, document
from tests.controller.serving import Clock, Controller, running


class Served:
    """A controller on a clock that stands still, and short words for requests."""

    def __init__(self, controller: Controller, clock: Clock) -> None:
        self.controller = controller
        self.clock = clock

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.controller.http.request(
            method, path, body, headers=sent, expect=range(400, 600), timeout=20
        )

    async def create(self, *rules: Any, query: str = "", **headers: str) -> Answer:
        answer = await self.ask("POST", f"/v1/rules{query}", {"rules": rules}, **headers)
        assert answer.status == 201, answer.body
        return answer

    async def rules(self) -> dict[str, str]:
        """The version that each rule routes to."""
        found = (await self.ask("GET", "/v1/rules")).json()["rules"]
        return {
            rule["id"]: rule["route"]["backends"][0]["tags"][0] if "route" in rule else "fault"
            for rule in found
        }

    async def pass_by(self, seconds: float) -> None:
        self.clock.seconds += seconds
        await lapse.sweep(self.controller.tenants)


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    clock = Clock()
    async with running(now=clock) as found:
        yield Served(found, clock)


def code(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.json()["code"]


async def test_who_what_when_and_why(served: Served) -> None:
    await served.create(document(id="a"), document(id="b"))
    first = await served.ask(
        "PUT",
        "/v1/rules",
        {"rules": [document(id="a", version="v2")]},
        A8_Author="ann",
        A8_Comment="v2 is ready",
        A8_Request_Id="request-2",
    )
    assert first.headers["etag"] == '"2"'
    await served.ask("DELETE", "/v1/rules?id=b")
    page = (await served.ask("GET", "/v1/history")).json()
    assert (page["revision"], page["next"]) == (3, None)
    assert [(one["revision"], one["cause"]) for one in page["revisions"]] == [
        (3, "remove"),
        (2, "replace"),
        (1, "create"),
    ]
    assert page["revisions"][1] == {
        "revision": 2,
        "at": "2030-03-17T17:46:40.000000Z",
        "cause": "replace",
        "author": "ann",
        "comment": "v2 is ready",
        "request_id": "request-2",
        "created": [],
        "updated": ["a"],
        "removed": [],
        "about": [],
        "confirm_by": "",
    }
    one = (await served.ask("GET", "/v1/history/2")).json()
    (step,) = one["difference"]
    assert (step["id"], step["change"], step["members"]) == ("a", "update", ["route"])
    assert step["after"]["route"] == {"backends": [{"tags": ["v2"]}]}
    assert step["after"]["author"] == "ann"


async def test_pages(served: Served) -> None:
    for number in range(5):
        await served.create(document(id=str(number)))
    seen, path = [], "/v1/history?limit=2"
    while True:
        page = (await served.ask("GET", path)).json()
        seen += [one["revision"] for one in page["revisions"]]
        if page["next"] is None:
            break
        path = f"/v1/history?limit=2&before={page['next']}"
    assert seen == [5, 4, 3, 2, 1]
    for query in ("limit=0", "limit=501", "limit=x", "before=-1", "before="):
        assert code(await served.ask("GET", f"/v1/history?{query}")) == (400, "invalid_query")


@pytest.mark.parametrize("revision", ["0", "2", "99"])
async def test_a_revision_that_is_not_there(served: Served, revision: str) -> None:
    await served.create(document(id="a"))
    assert code(await served.ask("GET", f"/v1/history/{revision}")) == (404, "revision_not_found")
    if revision != "0":
        answer = await served.ask("POST", "/v1/rollback", {"revision": int(revision)})
        assert code(answer) == (404, "revision_not_found")


async def test_rollback(served: Served) -> None:
    await served.create(document(id="a"), document(id="b"))
    await served.ask("PUT", "/v1/rules", {"rules": [document(id="a", version="v2")]})
    await served.ask("DELETE", "/v1/rules?id=b")
    answer = await served.ask("POST", "/v1/rollback", {"revision": 1}, A8_Author="ann")
    assert (answer.status, answer.headers["etag"]) == (200, '"4"')
    assert answer.json() == {"revision": 4, "created": ["b"], "updated": ["a"], "removed": []}
    assert await served.rules() == {"a": "v1", "b": "v1"}
    newest = (await served.ask("GET", "/v1/history?limit=1")).json()["revisions"][0]
    assert (newest["cause"], newest["about"], newest["author"]) == ("rollback", [1], "ann")


async def test_rollback_never_revives_what_has_lapsed(served: Served) -> None:
    await served.create(document(id="a"), delay(id="f", ttl=5))
    await served.pass_by(6)
    assert await served.rules() == {"a": "v1"}
    await served.ask("POST", "/v1/rollback", {"revision": 1})
    assert await served.rules() == {"a": "v1"}


@pytest.mark.parametrize("body", [{}, {"revision": "1"}, {"revision": -1}, {"revision": True}, {"to": 1}])
@pytest.mark.parametrize("path", ["/v1/rollback", "/v1/confirm"])
async def test_which_revision(served: Served, path: str, body: Any) -> None:
    assert code(await served.ask("POST", path, body)) == (400, "invalid_json")


async def test_a_history_that_is_not_kept_any_more() -> None:
    async with running(MemoryStore(kept=2)) as controller:
        served = Served(controller, Clock())
        for number in range(4):
            await served.create(document(id=str(number)))
        answer = await served.ask("POST", "/v1/rollback", {"revision": 1})
        assert code(answer) == (404, "revision_not_found")
        assert "the oldest to go back to is 2" in answer.json()["description"]
        assert (await served.ask("POST", "/v1/rollback", {"revision": 2})).status == 200
        assert await served.rules() == {"0": "v1", "1": "v1"}


WRITES: list[tuple[str, str, Any]] = [
    ("POST", "/v1/rules", {"rules": [document(id="new")]}),
    ("PUT", "/v1/rules", {"rules": [document(id="a", version="v2")]}),
    ("DELETE", "/v1/rules?id=a", None),
    ("PUT", "/v1/rules/routes/reviews", {"rules": []}),
    ("DELETE", "/v1/rules/routes/reviews", None),
    ("DELETE", "/v1/rules/actions/reviews", None),
    ("PUT", "/v1/apply", {"rules": [document(id="b")]}),
    ("PUT", "/v1/apply?dry_run=true", {"rules": [document(id="b")]}),
    ("POST", "/v1/rollback", {"revision": 0}),
]


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
async def test_if_match_on_every_write(served: Served, method: str, path: str, body: Any) -> None:
    await served.create(document(id="a"))
    answer = await served.ask(method, path, body, If_Match='"7"')
    assert code(answer) == (412, "revision_moved")
    assert (answer.headers["etag"], answer.json()["revision"]) == ('"1"', 1)
    assert await served.rules() == {"a": "v1"}
    assert code(await served.ask(method, path, body, If_Match="seven")) == (400, "invalid_query")
    for tag in ('"7", "1"',):
        assert (await served.ask(method, path, body, If_Match=tag)).status in (200, 201)


@pytest.mark.parametrize("path", ["/v1/rules", "/v1/rules/routes", "/v1/rules/routes/reviews", "/v1/history"])
async def test_reads_name_the_revision(served: Served, path: str) -> None:
    await served.create(document(id="a"))
    assert (await served.ask("GET", path)).headers["etag"] == '"1"'


async def test_a_hundred_writers(served: Served) -> None:
    """Each wants to count one on, as clients do: read, write if nobody was faster, else again."""
    await served.create(document(id="counter", description="0"))
    tries = 0

    async def count_on() -> None:
        nonlocal tries
        while True:
            tries += 1
            read = await served.ask("GET", "/v1/rules")
            number = int(read.json()["rules"][0]["description"])
            rules = {"rules": [document(id="counter", description=str(number + 1))]}
            written = await served.ask("PUT", "/v1/rules", rules, If_Match=read.headers["etag"])
            if written.status == 200:
                return
            assert written.status == 412

    await asyncio.gather(*[count_on() for _ in range(100)])
    read = (await served.ask("GET", "/v1/rules")).json()
    assert (read["rules"][0]["description"], read["revision"]) == ("100", 101)
    assert tries > 100


async def test_exactly_one_wins_each_revision(served: Served) -> None:
    for revision in range(5):
        answers = await asyncio.gather(
            *[
                served.ask(
                    "POST",
                    "/v1/rules",
                    {"rules": [document(id=f"{revision}-{i}")]},
                    If_Match=f'"{revision}"',
                )
                for i in range(100)
            ]
        )
        assert sorted(answer.status for answer in answers) == [201] + [412] * 99
    assert len(await served.rules()) == 5


async def test_unconfirmed_it_reverts_by_itself(served: Served) -> None:
    await served.create(document(id="a"))
    answer = await served.ask(
        "PUT", "/v1/rules?confirm_within=30s", {"rules": [document(id="a", version="v2")]}
    )
    assert answer.json() == {"revision": 2, "confirm_by": "2030-03-17T17:47:10.000000Z"}
    await served.pass_by(29)
    assert await served.rules() == {"a": "v2"}
    await served.pass_by(1)
    assert await served.rules() == {"a": "v1"}
    newest = (await served.ask("GET", "/v1/history?limit=1")).json()["revisions"][0]
    assert (newest["cause"], newest["about"], newest["updated"]) == ("revert", [2], ["a"])
    assert code(await served.ask("POST", "/v1/confirm", {"revision": 2})) == (404, "nothing_to_confirm")


async def test_confirmed_it_stays(served: Served) -> None:
    answer = await served.create(document(id="a"), query="?confirm_within=30")
    assert answer.json()["ids"] == ["a"]
    assert answer.json()["confirm_by"]
    assert (await served.ask("POST", "/v1/confirm", {"revision": 1})).json()["revision"] == 2
    await served.pass_by(999)
    assert await served.rules() == {"a": "v1"}


@pytest.mark.parametrize("query", ["confirm_within=0", "confirm_within=x", "wait=-1", "wait=1h", "wiat=5s"])
async def test_terms_that_cannot_be(served: Served, query: str) -> None:
    answer = await served.ask("POST", f"/v1/rules?{query}", {"rules": [document()]})
    assert code(answer) == (400, "invalid_query")
    assert await served.rules() == {}


async def test_apply_makes_it_so(served: Served) -> None:
    await served.create(document(id="same"), document(id="other"), document(id="gone"))
    wanted = {
        "rules": [document(id="same"), document(id="other", version="v2"), document("ratings", id="new")]
    }
    sidecar = "123e4567-e89b-42d3-a456-426614174000"
    fleet = (await served.controller.tenants.get("default")).fleet
    fleet.opened(sidecar, caller("web", ["v1"]), asyncio.get_running_loop().time())
    dry = (await served.ask("PUT", "/v1/apply?dry_run=true", wanted)).json()
    assert dry["revision"] == 1
    assert [(one["id"], one["change"]) for one in dry["difference"]] == [
        ("gone", "remove"),
        ("new", "create"),
        ("other", "update"),
    ]
    assert dry["sidecars"] == [
        {"id": sidecar, "service": "web", "tags": ["v1"], "destinations": ["ratings", "reviews"]}
    ]
    assert await served.rules() == {"same": "v1", "other": "v1", "gone": "v1"}
    done = await served.ask("PUT", "/v1/apply", wanted, A8_Author="ann")
    assert done.json() == {"revision": 2, "difference": done.json()["difference"]}
    assert await served.rules() == {"same": "v1", "other": "v2", "new": "v1"}
    again = await served.ask("PUT", "/v1/apply", wanted)
    assert again.json() == {"revision": 2, "difference": []}
    assert (await served.ask("PUT", "/v1/apply?dry_run=1", wanted)).json()["sidecars"] == []


async def test_apply_a_labelled_subset_and_without_removing(served: Served) -> None:
    await served.create(
        document(id="theirs"), document(id="mine", tags=["t"]), document(id="old", tags=["t"])
    )
    wanted = {"rules": [document(id="mine", version="v2", tags=["t"])]}
    await served.ask("PUT", "/v1/apply?tag=t&prune=false", wanted)
    assert await served.rules() == {"theirs": "v1", "mine": "v2", "old": "v1"}
    await served.ask("PUT", "/v1/apply?tag=t", wanted)
    assert await served.rules() == {"theirs": "v1", "mine": "v2"}
    answer = await served.ask("PUT", "/v1/apply?tag=t", {"rules": [document(id="theirs")]})
    assert code(answer) == (400, "invalid_rule")
    answer = await served.ask("PUT", "/v1/apply?tag=t", {"rules": [document(id="theirs", tags=["t"])]})
    assert code(answer) == (409, "rule_elsewhere")
    assert code(await served.ask("PUT", "/v1/apply?dry_run=perhaps", wanted)) == (400, "invalid_query")


async def test_apply_may_be_confirmed_too(served: Served) -> None:
    await served.create(document(id="a"))
    answer = await served.ask("PUT", "/v1/apply?confirm_within=30", {"rules": [document(id="b")]})
    assert answer.json()["confirm_by"]
    await served.pass_by(30)
    assert await served.rules() == {"a": "v1"}


async def test_export_and_import(served: Served) -> None:
    await served.create(document(id="a"), delay(id="f", ttl=0), A8_Author="ann")
    await served.ask("PUT", "/v1/rules", {"rules": [document(id="a", version="v2")]})
    kept = await served.ask("GET", "/v1/export")
    async with running(now=served.clock) as controller:
        other = Served(controller, served.clock)
        answer = await other.ask("PUT", "/v1/import", kept.body)
        assert (answer.status, answer.json()) == (200, {"revision": 2, "rules": 2})
        for path in ("/v1/rules", "/v1/history", "/v1/history/1", "/v1/export"):
            assert (await other.ask("GET", path)).body == (await served.ask("GET", path)).body
        assert code(await other.ask("PUT", "/v1/import", kept.body)) == (409, "not_empty")
        assert code(await other.ask("PUT", "/v1/import", {"form": 9})) == (400, "invalid_input")
        await other.ask("POST", "/v1/rollback", {"revision": 1})
        assert await other.rules() == {"a": "v1", "f": "fault"}
        assert code(await other.ask("POST", "/v1/rules", b"x" * 1_100_000)) == (413, "body_too_large")


async def test_an_import_may_be_larger_than_other_bodies(served: Served) -> None:
    words = "x" * 1000
    for start in range(0, 1500, 500):
        rules = [document(id=str(start + i), description=words) for i in range(500)]
        await served.create(*rules)
    kept = await served.ask("GET", "/v1/export")
    assert len(kept.body) > 2_000_000
    async with running(now=served.clock) as controller:
        answer = await Served(controller, served.clock).ask("PUT", "/v1/import", kept.body)
        assert answer.json() == {"revision": 3, "rules": 1500}
