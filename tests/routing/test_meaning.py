"""The whole way from rules to a decision, held against an interpreter of the rules themselves."""

from collections import defaultdict

from hypothesis import event, given, settings
from hypothesis import strategies as st

from amalgam8.model.caller import Caller
from amalgam8.model.instance import Instance
from amalgam8.model.rule import Rule
from amalgam8.routing.compile import compile  # noqa: A004
from amalgam8.routing.decide import Request, decide
from amalgam8.routing.plan import DestinationPlan
from amalgam8.routing.resolve import resolve
from tests.routing import language
from tests.routing.interpreter import Interpreter, agree, flat
from tests.routing.language import NAMES, one

NOW = 10.0


def planned(rules: list[Rule], who: Caller) -> dict[str, DestinationPlan]:
    found: dict[str, list[Rule]] = defaultdict(list)
    for rule in rules:
        found[rule.destination].append(rule)
    parts = {name: compile(group, who) for name, group in found.items()}
    return {name: part for name, part in parts.items() if part is not None}


@settings(max_examples=300)
@given(
    language.rules(),
    language.callers,
    language.instances,
    st.lists(language.requests, min_size=3, max_size=8),
)
def test_decide_says_what_the_rules_say(
    rules: list[Rule], who: Caller, instances: dict[str, tuple[Instance, ...]], requests: list[Request]
) -> None:
    everywhere = {name: (*instances.get(name, ()), one(name, 99, kind="udp")) for name in NAMES}
    interpreter = Interpreter(rules, who, everywhere, NOW)
    routing = resolve(planned(rules, who), everywhere, NOW)
    for request in requests:
        mine, theirs = interpreter.answer(request), flat(decide(routing, request, who.service))
        event(str(mine[0]) if len(mine) < 7 else "answered")
        assert agree(mine, theirs), f"{request}\n{mine}\n{theirs}"
