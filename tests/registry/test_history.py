"""The last events of each tenant."""

from amalgam8.registry.history import KEPT, History
from amalgam8.registry.store import Happened
from tests.registry.kit import running

BODY = {"service_name": "reviews", "endpoint": {"type": "http", "value": "h:1"}}


def test_the_last_thousand_of_each_tenant_are_kept() -> None:
    history = History(lambda: 1_900_000_000.0)
    for number in range(KEPT + 5):
        history.happened(Happened("t", "registered", "s", str(number)))
    history.happened(Happened("u", "expired", "s", "x"))
    history.happened(Happened("t", "renewed", "s", "never"))
    assert [event.id for event in history.events("t")] == [str(number) for number in range(5, KEPT + 5)]
    assert [event.reason for event in history.events("u")] == ["it was not renewed in time"]
    assert history.events("nobody") == []


async def test_what_happened_is_told_with_reasons() -> None:
    async with running() as registry:
        identity = (await registry.ask("POST", "/api/v1/instances", BODY)).json()["id"]
        await registry.ask("POST", "/api/v1/instances", BODY)
        await registry.ask("POST", "/api/v1/instances", {**BODY, "status": "STARTING"})
        await registry.ask("POST", "/api/v1/instances", {**BODY, "status": "STARTING", "tags": ["v2"]})
        other = {**BODY, "service_name": "ratings"}
        gone = (await registry.ask("POST", "/api/v1/instances", other)).json()["id"]
        await registry.ask("DELETE", f"/api/v1/instances/{gone}")
        await registry.pass_time(31)
        everything = (await registry.ask("GET", "/api/v1/events")).json()["events"]
        reviews = (await registry.ask("GET", "/api/v1/events?service_name=reviews")).json()["events"]
        nothing = (await registry.ask("GET", "/api/v1/events?service_name=nobody")).json()
        wrong = await registry.ask("GET", "/api/v1/events?servicename=x")
    assert [(event["event"], event["service_name"], event["reason"]) for event in everything] == [
        ("registered", "reviews", "it is new"),
        ("changed", "reviews", "its status was UP, and is STARTING"),
        ("changed", "reviews", "it registered again with other content"),
        ("registered", "ratings", "it is new"),
        ("removed", "ratings", "it was deregistered"),
        ("expired", "reviews", "not renewed for 31 s, its ttl is 30 s"),
    ]
    assert reviews == [event for event in everything if event["service_name"] == "reviews"]
    assert {event["id"] for event in reviews} == {identity}
    assert reviews[-1]["status"] == "STARTING"
    assert reviews[0]["time"].startswith("2030-")
    assert nothing == {"events": []}
    assert (wrong.status, wrong.json()["code"]) == (400, "invalid_query")
