"""Rules, instances, callers and requests at random: a real proxy's answers are among those of ``decide``.

And of ``explain``: what the answers are held to is read off the explanation that the controller's API would
give of each request, which must say the same as ``decide`` of the whole Routing.

A few hundred sets in each run of the tests, always the same ones; ``make fuzz SECONDS=3600`` goes on with
others (``A8_FUZZ_SECONDS``, ``A8_FUZZ_SEED``). Where the two differ, the smallest such case that was found is
printed as YAML, as it would stand in ``cases``. Shares are held to what ``decide`` says by chi-square.
"""

import asyncio
import contextlib
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from random import SystemRandom
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky

from amalgam8.controller.book import book_of
from amalgam8.controller.explain_api import present
from amalgam8.controller.plans import Plans
from amalgam8.controller.store import Mirror
from amalgam8.model.caller import Caller
from amalgam8.model.instance import Endpoint, Instance
from amalgam8.model.rule import Abort, Action, Delay, RateLimit, Rule
from amalgam8.routing.decide import Decision, Request, decide
from amalgam8.routing.explain import Call, explain
from amalgam8.routing.resolve import ServiceRouting, resolve
from tests.conformance.case import OWN_SERVICE, Ask
from tests.conformance.chances import Chance, chances
from tests.conformance.chisquare import unlikely
from tests.conformance.expect import LIMITED, Answer, admitted
from tests.conformance.proxies import PROXIES
from tests.conformance.running import Bench, bench
from tests.routing import language
from tests.routing.test_explain import decision_of
from tests.routing.test_meaning import planned

SECONDS = float(os.environ.get("A8_FUZZ_SECONDS", "0"))
SEED = int(os.environ.get("A8_FUZZ_SEED", SystemRandom().randrange(1 << 30) if SECONDS else 1))
SETS = 250
"""Rule sets in one round; without SECONDS there is one round."""

PLACES = 16
TRIES = 4
DRAWS = 400 if SECONDS else 120
SHRINKING = 60.0
"""Seconds for making a case small once one is found; then the smallest so far is told."""

FALSE_ALARM = 1e-9
NOW = 10.0

Instances = dict[str, tuple[Instance, ...]]


class Fuzz(msgspec.Struct):
    """A proxy under test, and the loop that it lives in."""

    runner: asyncio.Runner
    bench: Bench


@pytest.fixture(scope="module", params=sorted(PROXIES))
def fuzz(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzz]:
    folder: Path = tmp_path_factory.mktemp("fuzz")
    with asyncio.Runner() as runner:
        around = bench(request.param, folder, PLACES)
        found = runner.run(around.__aenter__())
        try:
            yield Fuzz(runner, found)
        finally:
            runner.run(around.__aexit__(None, None, None))


@pytest.mark.timeout(SECONDS + 300)
def test_a_proxy_does_what_decide_allows(fuzz: Fuzz) -> None:
    end = time.monotonic() + SECONDS
    for number in count(SEED):
        _round(fuzz, number)
        if time.monotonic() >= end:
            break


def _round(fuzz: Fuzz, number: int) -> None:
    @seed(number)
    @settings(
        max_examples=SETS,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
    @given(
        language.rules(),
        language.callers,
        language.instances,
        st.lists(language.requests, min_size=2, max_size=6),
    )
    def check(rules: list[Rule], who: Caller, instances: Instances, requests: list[Request]) -> None:
        if differences and time.monotonic() > differences[0][0] + SHRINKING:
            return
        try:
            fuzz.runner.run(_check(fuzz.bench, rules, who, instances, requests))
        except AssertionError as error:
            differences.append((time.monotonic(), str(error)))
            raise

    differences: list[tuple[float, str]] = []
    with contextlib.suppress(AssertionError, Flaky, BaseExceptionGroup):
        check()
    if differences:
        smallest = min((text for _, text in differences), key=len)
        pytest.fail(f"A8_FUZZ_SEED={number} finds it again\n{smallest}", pytrace=False)


async def _check(
    found: Bench, rules: list[Rule], who: Caller, instances: Instances, requests: list[Request]
) -> None:
    rules = [each for rule in rules if (each := _quick(rule, found.proxy.lacks)) is not None]
    placed, names = _placed(instances, found.pool.ports)
    routing = resolve(planned(rules, who), placed, NOW)
    book = book_of(rules, 1, 0)
    world = present(book, Plans(Mirror(book)), who, placed)
    rejected = await found.follow(routing, names)
    assert rejected == {}, f"{rejected}\n{_as_case(rules, who, placed, requests)}"
    for request in requests:
        ask = Ask(path=request.path, headers=_lines(request))
        whole, call = ask.request(), Call("", ask.path, ask.method, ask.request().headers)
        explanation = explain(world, who, call, NOW, OWN_SERVICE)
        decision = decision_of(explanation)
        if decision != (right := decide(routing, whole, OWN_SERVICE)):
            case = _as_case(rules, who, placed, [request])
            raise AssertionError(f"explained as {explanation}\ndecided as {right}\n{case}")
        allowed = chances(decision)
        draws = DRAWS if _can_be_counted(decision, allowed) else TRIES
        answers = await found.send(ask, draws)
        if problem := _problem(decision, allowed, answers, routing):
            raise AssertionError(f"{problem}\n{_as_case(rules, who, placed, [request])}")


def _lines(request: Request) -> list[tuple[str, str]]:
    """The headers of a request as they are sent: one value with commas in several lines, cookies likewise."""
    found = [
        (name, value)
        for name, values in request.headers.items()
        for value in values.split("; " if name.lower() == "cookie" else ",")
    ]
    return found if "Host" in request.headers else [*found, ("Host", "mesh")]


def _problem(
    decision: Decision, allowed: list[Chance], answers: list[Answer], routing: Mapping[str, ServiceRouting]
) -> str:
    """What is wrong with these answers; empty: nothing."""
    for answer in answers:
        if answer.status == LIMITED and decision.limits:
            continue
        if not admitted(answer, allowed):
            return f"{answer}\nis none of {allowed}"
        if answer.seen is not None and (words := _seen_wrong(decision, answer)):
            return f"{words}: {answer}\n{decision}"
    versions = _versions(decision)
    if _can_be_counted(decision, allowed):
        wanted: Counter[tuple[int, int]] = Counter()
        for chance in allowed:
            version = versions[chance.instances[0]] if chance.instances else -1
            wanted[chance.status, version] += chance.probability  # type: ignore[assignment]
        came = Counter((each.status, versions[each.instance] if each.instance else -1) for each in answers)
        if unlikely(came, wanted, FALSE_ALARM):
            return f"{came} of {len(answers)} for shares of {wanted}"
    return ""


def _seen_wrong(decision: Decision, answer: Answer) -> str:
    seen = answer.seen
    assert seen is not None
    if seen.path != decision.path:
        return f"the path was {seen.path}"
    if any(seen.values(name) != [value] for name, value in decision.set_headers):
        return "a header was not set"
    if any(seen.values(name) for name in decision.remove_headers):
        return "a header was not removed"
    return ""


def _can_be_counted(decision: Decision, allowed: list[Chance]) -> bool:
    """Whether answers are independent draws, of more than one kind, and each instance tells its version."""
    versions = _versions(decision)
    if any(versions[name] != each.backend for each in decision.outcomes for name in each.instances):
        return False
    kinds = {(each.status, versions[each.instances[0]] if each.instances else -1) for each in allowed}
    return len(kinds) > 1 and not decision.limits and decision.affinity is None


def _versions(decision: Decision) -> dict[str, int]:
    """Instances by version; versions that share an instance cannot be told apart, and count as one."""
    groups: list[tuple[set[int], set[str]]] = []
    for outcome in decision.outcomes:
        backends, names = {outcome.backend}, set(outcome.instances)
        for group in [each for each in groups if each[0] & backends or each[1] & names]:
            groups.remove(group)
            backends, names = backends | group[0], names | group[1]
        groups.append((backends, names))
    return {name: min(backends) for backends, names in groups for name in names}


def _quick(rule: Rule, lacks: frozenset[str]) -> Rule | None:
    """The rule without what takes long, and without what this proxy lacks; None if nothing is left."""
    if "no-answer" in lacks and any(isinstance(a, Abort) and a.return_code == -1 for a in rule.actions):
        return None
    actions = tuple(_quick_action(action) for action in rule.actions)
    route = rule.route
    if route is not None:
        backends = tuple(
            msgspec.structs.replace(backend, timeout=10 if backend.timeout else 0)
            for backend in route.backends
        )
        route = msgspec.structs.replace(
            route, backends=backends, http_req_timeout=10 if route.http_req_timeout else 0
        )
    return msgspec.structs.replace(rule, actions=actions, route=route)


def _quick_action(action: Action) -> Action:
    if isinstance(action, (Delay, Abort)) and action.probability == 0.25:
        action = msgspec.structs.replace(action, probability=0.5)  # seen with fewer draws
    if isinstance(action, Delay):
        return msgspec.structs.replace(action, duration=0.002 if action.duration < 1 else 0.004)
    if isinstance(action, RateLimit):
        return msgspec.structs.replace(action, requests=1000)
    return action


def _placed(instances: Instances, ports: list[int]) -> tuple[Instances, list[str]]:
    """The instances, each at a place of the pool, and their ids by place."""
    names: list[str] = []
    placed: Instances = {}
    for service, group in sorted(instances.items()):
        for instance in group:
            kind = "http" if instance.endpoint.type == "https" else instance.endpoint.type
            endpoint = Endpoint(kind, f"127.0.0.1:{ports[len(names)]}")
            names.append(instance.id)
            placed[service] = (*placed.get(service, ()), msgspec.structs.replace(instance, endpoint=endpoint))
    return placed, names


def _as_case(rules: list[Rule], who: Caller, instances: Instances, requests: list[Request]) -> str:
    """The case in YAML."""
    document: dict[str, Any] = {
        "name": "",
        "proves": "",
        "caller": str(who),
        "instances": {
            name: {each.id: {"tags": list(each.tags), "type": each.endpoint.type} for each in group}
            for name, group in instances.items()
        },
        "rules": msgspec.json.decode(msgspec.json.encode(rules)),
        "asks": [{"path": request.path, "headers": _lines(request)} for request in requests],
    }
    return str(yaml.safe_dump([document], sort_keys=False, allow_unicode=True))
