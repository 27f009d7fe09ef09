"""What rules mean for connections, and what is said about the rest of them."""

from collections.abc import Mapping

import msgspec
from hypothesis import given, settings

from amalgam8.model.caller import Caller
from amalgam8.model.instance import Instance
from amalgam8.model.rule import Rule
from amalgam8.model.rule_reader import read_list
from amalgam8.routing.addressing import address
from amalgam8.routing.compile import compile  # noqa: A004 - the field's own word
from amalgam8.routing.connect import EXCHANGE, HEADERS, PINNED, URI, Connection, Unfit, connect
from amalgam8.routing.decide import Request, decide
from amalgam8.routing.plan import DestinationPlan
from amalgam8.routing.resolve import SHARES, resolve, resolve_service
from tests.routing import language
from tests.routing.test_meaning import planned
from tests.wire import instance

PEERS = {"db": (instance("db", 1, "v1"), instance("db", 2, "v2"))}


def connection(*rules: Mapping[str, object], who: str = "web", tags: tuple[str, ...] = ()) -> Connection:
    documents = [{"destination": "db", "id": f"r{age}", **rule} for age, rule in enumerate(rules)]
    part = compile(read_list({"rules": documents}), Caller(who)) if documents else None
    return connect(resolve_service("db", part or DestinationPlan(), PEERS, 0.0, pins=(tags,)), tags)


def shares(found: Connection) -> dict[tuple[str, ...], float]:
    return {piece.target.tags: piece.weight / SHARES for piece in found.slices}


V1, V2 = {"tags": ["v1"]}, {"tags": ["v2"]}


def test_without_rules_all_instances_take_connections() -> None:
    assert shares(connection()) == {(): 1.0}


def test_sources_and_weights_count() -> None:
    rule = {"match": {"source": {"name": "web"}}, "route": {"backends": [{**V1, "weight": 0.25}, V2]}}
    found = connection(rule)
    assert shares(found) == {("v1",): 0.25, ("v2",): 0.75}
    assert (found.rule, found.unfit) == ("r0", ())
    assert shares(connection(rule, who="other")) == {(): 1.0}


def test_a_rule_for_some_headers_is_passed_over_and_named() -> None:
    found = connection(
        {"priority": 2, "match": {"headers": {"Cookie": "user=jason"}}, "route": {"backends": [V2]}},
        {"priority": 1, "route": {"backends": [V1]}},
    )
    assert shares(found) == {("v1",): 1.0}
    assert found.unfit == (Unfit("r0", HEADERS),)


def test_a_rule_for_all_without_a_header_holds() -> None:
    banned = {"match": {"none": [{"headers": {"Cookie": "user=jason"}}]}, "route": {"backends": [V2]}}
    found = connection(banned)
    assert shares(found) == {("v2",): 1.0}
    assert found.unfit == (Unfit("r0", HEADERS),)


def test_access_counts_and_refuses() -> None:
    assert connection({"actions": [{"action": "deny"}]}).rule == "r0"
    refused = connection(
        {"match": {"source": {"name": "web"}}, "actions": [{"action": "allow"}]}, who="other"
    )
    assert refused.refusal is not None
    assert refused.slices == ()
    assert (
        connection({"match": {"source": {"name": "web"}}, "actions": [{"action": "allow"}]}).refusal is None
    )
    for_jason = {"match": {"headers": {"Cookie": "jason"}}, "actions": [{"action": "deny"}]}
    assert connection(for_jason).refusal is None
    assert connection(for_jason).unfit == (Unfit("r0", HEADERS),)


def test_what_acts_on_requests_is_named() -> None:
    found = connection(
        {"route": {"backends": [V1], "http_req_timeout": 3}},
        {"route": {"uri": {"path": "/x"}, "backends": [V1]}},
        {"actions": [{"action": "delay", "duration": 1}]},
        {"actions": [{"action": "rate_limit", "requests": 5}]},
        {"actions": [{"action": "mirror", "tags": ["v2"]}]},
        {"actions": [{"action": "headers", "remove": ["x"]}]},
        {"actions": [{"action": "trace"}]},
    )
    assert shares(found) == {("v1",): 1.0}
    said = {unfit.rule: unfit.why for unfit in found.unfit}
    assert said["r0"] == EXCHANGE
    assert said["r1"] == URI
    assert {"delay", "limit", "mirror", "headers", "trace"} <= {
        word for why in said.values() for word in why.replace("a rate ", "").split()
    }
    assert set(said) == {f"r{number}" for number in range(7)}


def test_tags_of_the_proxy_choose_the_version() -> None:
    found = connection({"route": {"backends": [V1]}}, tags=("v2",))
    assert shares(found) == {("v2",): 1.0}
    assert found.unfit == (Unfit("r0", PINNED),)
    assert connection({"actions": [{"action": "deny"}]}, tags=("v2",)).refusal is not None


@settings(max_examples=40)
@given(language.rules(), language.callers, language.instances)
def test_a_connection_is_a_call_without_headers(
    rules: list[Rule], who: Caller, instances: dict[str, tuple[Instance, ...]]
) -> None:
    for name, service in resolve(planned(rules, who), instances, 10.0).items():
        inner = msgspec.structs.replace(service, outers=())
        found, decision = connect(service), decide({name: inner}, Request(f"/{address(name)}/", {}))
        assert found.refusal == decision.refusal
        if found.refusal is None:
            assert [(piece.target.tags, piece.weight / SHARES) for piece in found.slices] == [
                (outcome.tags, outcome.probability) for outcome in decision.outcomes
            ]
