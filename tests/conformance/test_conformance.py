"""Every case, against ``decide`` and against each real proxy."""

from collections import Counter

import pytest

from amalgam8.routing.resolve import resolve
from tests.conformance.case import NOW, Case, read_cases
from tests.conformance.conftest import LACKS
from tests.conformance.expect import check_decide
from tests.conformance.proxies import FEATURES, PROXIES
from tests.conformance.running import NAMES, PLACES, Bench

CASES = read_cases()
BY_NAME = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))


def test_the_cases_are_many_and_can_be_told_apart() -> None:
    assert len(CASES) >= 150
    names = Counter(case.name for case in CASES)
    assert [name for name, count in names.items() if count > 1] == []
    assert {need for case in CASES for need in case.needs} <= FEATURES
    assert all(proxy.lacks <= FEATURES for proxy in PROXIES.values())
    assert all(len(case.given()) <= PLACES for case in CASES)


@BY_NAME
def test_decide(case: Case) -> None:
    ports = {name: 1024 + place for place, (_, name, _) in enumerate(case.given())}
    routing = resolve(case.plan(), case.registered(ports, dead=False), NOW, NAMES)
    for ask in case.asks:
        check_decide(routing, ask)


@BY_NAME
@pytest.mark.asyncio(loop_scope="module")
async def test_proxy(bench: Bench, case: Case) -> None:
    if missing := sorted(bench.proxy.lacks.intersection(case.needs)):
        pytest.skip(f"{LACKS}{', '.join(missing)}")
    routing = await bench.apply(case)
    for ask in case.asks:
        await bench.check(routing, ask)
