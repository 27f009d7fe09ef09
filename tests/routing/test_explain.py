"""explain: it says what ``decide`` says of the whole Routing, though it resolves a few services only."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from amalgam8.model.caller import Caller, caller
from amalgam8.model.instance import Instance
from amalgam8.model.rule import Rule, in_order, rfc3339
from amalgam8.model.rule_reader import read_list
from amalgam8.routing.compile import compile  # noqa: A004
from amalgam8.routing.decide import Copy, Decision, Outcome, Refusal, Request, decide
from amalgam8.routing.explain import BY_TAG_SETS, Call, Explanation, Refused, World, explain
from amalgam8.routing.resolve import resolve
from tests.routing import language
from tests.routing.language import one
from tests.routing.test_meaning import planned

NOW = 10.0
WEB = caller("web", ["v1"])


def world(rules: Sequence[Rule], who: Caller, instances: Mapping[str, tuple[Instance, ...]] | None) -> World:
    groups: dict[str, list[Rule]] = {}
    for rule in in_order(rules):
        groups.setdefault(rule.destination, []).append(rule)
    return World(groups, lambda name: compile(groups[name], who) if name in groups else None, instances)


def decision_of(explanation: Explanation) -> Decision:
    """The decision that an explanation tells of."""

    def refusal(found: Refused | None) -> Refusal | None:
        return None if found is None else Refusal(found.kind, found.service, found.rule)  # type: ignore[arg-type]

    routes = [
        verdict.id
        for verdict in explanation.rules
        for effect in verdict.effects
        if (effect.kind, effect.state) == ("route", "acts")
    ]
    return Decision(
        service="" if explanation.refusal and explanation.refusal.kind == "unknown" else explanation.service,
        path=explanation.path,
        refusal=refusal(explanation.refusal),
        limits=explanation.limits,
        set_headers=tuple(explanation.set_headers.items()),
        remove_headers=explanation.remove_headers,
        affinity=explanation.affinity,
        mirrors=tuple(
            Copy(copy.probability, copy.tags, copy.instances or (), copy.rule) for copy in explanation.mirrors
        ),
        outcomes=tuple(
            Outcome(
                probability=version.probability,
                service=version.service,
                tags=version.tags,
                instances=version.instances or (),
                backend=version.backend,
                refusal=refusal(version.refusal),
                delays=tuple((each.seconds, each.probability) for each in version.delays),
                aborts=tuple((each.status, each.probability) for each in version.aborts),
                timeout=version.timeout,
                retries=version.retries,
                traces=tuple((each.key, each.value) for each in version.traces),
                rules=version.rules,
            )
            for version in explanation.versions
        ),
        rules=explanation.acting,
        route=routes[0] if routes else "",
    )


@settings(max_examples=120)
@given(
    language.rules(),
    language.callers,
    language.instances,
    st.lists(language.requests, min_size=3, max_size=8),
)
def test_an_explanation_is_the_decision(
    rules: list[Rule], who: Caller, instances: dict[str, tuple[Instance, ...]], requests: list[Request]
) -> None:
    routing = resolve(planned(rules, who), instances, NOW)
    for request in requests:
        decision = decide(routing, request, who.service)
        found = explain(
            world(rules, who, instances), who, Call("", request.path, "GET", request.headers), NOW
        )
        assert decision_of(found) == decision
        acting = {each.id for each in found.rules for effect in each.effects if effect.state == "acts"}
        told = {*decision.rules, decision.route, *(id_ for one in decision.outcomes for id_ in one.rules)}
        if decision.refusal and decision.refusal.kind == "denied":
            told.add(decision.refusal.rule)
        # An allow rule acts by letting the call pass, of which a decision says nothing.
        allows = {rule.id for rule in rules if any(type(each).__name__ == "Allow" for each in rule.actions)}
        assert acting - allows == told - {""} - allows
        assert acting <= {each.id for each in found.rules if each.matches} | {
            found.refusal.rule if found.refusal else ""
        }


@settings(max_examples=60)
@given(language.rules(), language.callers, language.instances, language.requests)
def test_a_path_inside_a_destination_is_the_same_call(
    rules: list[Rule], who: Caller, instances: dict[str, tuple[Instance, ...]], request: Request
) -> None:
    around = world(rules, who, instances)
    plain, mark, query = request.path.partition("?")
    segment, slash, rest = plain[1:].partition("/")
    assume(segment)
    inside = Call(unquote(segment), f"{slash}{rest}{mark}{query}", "GET", request.headers)
    whole = explain(around, who, Call("", request.path, "GET", request.headers), NOW)
    assert explain(around, who, inside, NOW) == whole


def rules_of(*documents: dict[str, Any]) -> list[Rule]:
    return [
        Rule(
            **{name: getattr(rule, name) for name in rule.__struct_fields__ if name != "created"},
            created=rfc3339(i),
        )
        for i, rule in enumerate(read_list({"rules": [{"destination": "reviews", **d} for d in documents]}))
    ]


def route(version: str, **more: Any) -> dict[str, Any]:
    return {"route": {"backends": [{"tags": [version]}]}, **more}


def test_without_instances_versions_are_told_by_tags() -> None:
    rules = rules_of(
        {"id": "r", "route": {"backends": [{"tags": ["v2"], "weight": 0.25}, {"tags": ["v1"]}]}},
        {"id": "f", "actions": [{"action": "delay", "duration": 2, "tags": ["v2"]}]},
    )
    found = explain(world(rules, WEB, None), WEB, Call("reviews", "/x"), NOW)
    assert [(one.tags, one.probability, one.instances, len(one.delays)) for one in found.versions] == [
        (("v2",), 0.25, None, 1),
        (("v1",), 0.75, None, 0),
    ]
    assert found.notes == (BY_TAG_SETS,)
    assert found.refusal is None


def test_without_instances_a_service_without_rules_is_taken_to_be_there() -> None:
    found = explain(world([], WEB, None), WEB, Call("reviews"), NOW)
    assert [(one.service, one.tags) for one in found.versions] == [("reviews", ())]


def test_without_instances_no_path_is_still_no_service() -> None:
    found = explain(world([], WEB, None), WEB, Call("", "/"), NOW)
    assert found.refusal == Refused("unknown", 404, "")


def test_an_unknown_service_is_told_with_the_rules_that_others_have() -> None:
    rules = rules_of(route("v1", id="r", match={"source": {"name": "api"}}))
    found = explain(world(rules, WEB, {}), WEB, Call("reviews"), NOW)
    assert found.refusal == Refused("unknown", 404, "reviews")
    assert [(each.id, each.reasons[0].text) for each in found.rules] == [("r", "the caller is web, not api")]


def test_a_version_without_instances_is_told() -> None:
    rules = rules_of(route("v9", id="r"))
    found = explain(world(rules, WEB, {"reviews": (one("reviews", 1, "v1"),)}), WEB, Call("reviews"), NOW)
    assert found.versions[0].refusal == Refused("unavailable", 503, "reviews", "r")


def test_how_the_service_was_found() -> None:
    rules = rules_of(
        route("v1", id="u") | {"route": {"backends": [{"tags": ["v1"]}], "uri": {"path": "/api"}}}
    )
    around = world(rules, WEB, {"reviews": (one("reviews", 1, "v1"),), "web": (one("web", 2),)})

    def by(path: str, host: str = "") -> str:
        return explain(around, WEB, Call("", path, headers={"Host": host}), NOW).addressed

    assert by("/reviews/x") == "path"
    assert by("/api") == "uri"
    assert by("/x", "reviews:80") == "host"
    assert by("/x", "REVIEWS") == "host"
    assert by("/reviews/x", "Web") == "path"
    assert by("/reviews/x", "web") == "path"
