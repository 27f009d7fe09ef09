"""Plans of callers: what is compiled, what is sent, and that nothing is missed."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amalgam8.controller import plans as plans_module
from amalgam8.controller import rulebook
from amalgam8.controller.book import Rulebook
from amalgam8.controller.plans import Plans
from amalgam8.controller.rulebook import Selection
from amalgam8.controller.store import Mirror
from amalgam8.model.caller import Caller, caller
from amalgam8.model.rule import Rule
from amalgam8.routing.compile import compile  # noqa: A004
from amalgam8.routing.plan import DestinationPlan, PlanDelta, PlanSnapshot, encode_part, part_hash, plan_hash
from amalgam8.runtime.feed import Gap
from tests.controller.rules import fault, route, sourced, write

WEB, GATEWAY = caller("web", ["v1"]), caller("gateway")


class Bench:
    """A mirror, its Plans, and a count of compilations."""

    def __init__(self) -> None:
        self.compiled = 0
        self.mirror = Mirror(Rulebook())
        self.plans = Plans(self.mirror, self._count)

    def create(self, *rules: Rule) -> None:
        self.mirror.take(rulebook.create(self.mirror.book, rules, write()))

    def replace(self, *rules: Rule) -> None:
        self.mirror.take(rulebook.replace(self.mirror.book, rules, write()))

    def remove(self, *ids: str) -> None:
        self.mirror.take(rulebook.remove(self.mirror.book, Selection(ids=ids), write()))

    def snapshot(self, who: Caller) -> PlanSnapshot:
        revision, data = self.plans.snapshot(who)
        found = msgspec.json.decode(data, type=PlanSnapshot)
        assert found.revision == revision
        return found

    def delta(self, who: Caller, since: int) -> PlanDelta | None:
        revision, data = self.plans.delta(who, since)
        assert revision == self.mirror.book.revision
        return None if data is None else msgspec.json.decode(data, type=PlanDelta)

    def _count(self) -> None:
        self.compiled += 1


async def test_a_snapshot_is_what_compile_says() -> None:
    bench = Bench()
    bench.create(route("a"), sourced("web", "b"), fault("f"), sourced("gateway", "g", "details"))
    found = bench.snapshot(WEB)
    by_destination = bench.mirror.book.by_destination
    wanted = {name: part for name in by_destination if (part := compile(by_destination[name], WEB))}
    assert found.destinations == wanted
    assert sorted(wanted) == ["ratings", "reviews"]
    assert found.hash == hash_of(wanted) == bench.plans.plan(WEB).hash


async def test_an_empty_plan_has_a_hash() -> None:
    found = Bench().snapshot(WEB)
    assert (found.revision, found.destinations, found.hash) == (0, {}, plan_hash({}))


async def test_callers_of_different_names_get_different_plans_for_a_sourced_rule() -> None:
    bench = Bench()
    bench.create(route("all"), sourced("web", "only-web", version="v2"))
    mine, theirs = bench.snapshot(WEB), bench.snapshot(GATEWAY)
    assert [entry.rule for entry in mine.destinations["reviews"].routes] == ["all", "only-web"]
    assert [entry.rule for entry in theirs.destinations["reviews"].routes] == ["all"]
    assert mine.hash != theirs.hash


async def test_a_change_compiles_its_destination_once_for_all_alike() -> None:
    bench = Bench()
    bench.create(*[route("", f"service-{i}") for i in range(20)], sourced("web", "s"))
    callers = [caller(f"app-{i}") for i in range(50)] + [WEB]
    for who in callers:
        bench.plans.plan(who)
    # reviews has a sourced rule: one compilation for web, one for everybody else.
    assert bench.compiled == 22
    bench.create(route("more", "service-3"))
    for who in callers:
        assert bench.delta(who, 1) is not None
    assert bench.compiled == 23
    bench.create(sourced("web", "t"))
    assert [bench.delta(who, 2) is not None for who in callers] == [False] * 50 + [True]
    assert bench.compiled == 25


async def test_a_delta_has_the_touched_parts_only() -> None:
    bench = Bench()
    bench.create(route("a"), route("b", "ratings"), route("c", "details"))
    bench.snapshot(WEB)
    bench.replace(route("a", version="v2"))
    bench.remove("c")
    found = bench.delta(WEB, 1)
    assert found is not None
    assert (sorted(found.changed), found.removed) == (["reviews"], ("details",))
    assert found.revision == 3
    assert found.hash == bench.snapshot(WEB).hash


async def test_what_leaves_the_plan_equal_sends_nothing() -> None:
    bench = Bench()
    bench.create(route("a"))
    before = bench.snapshot(GATEWAY)
    bench.create(sourced("web", "w"))
    bench.replace(route("a", description="only words", tags=("x",)))
    bench.remove("w")
    bench.mirror.take(rulebook.remove(bench.mirror.book, Selection(tags=("none",)), write()))
    assert bench.delta(GATEWAY, 1) is None
    assert bench.snapshot(GATEWAY).hash == before.hash


async def test_there_and_back_again_between_looks_sends_nothing() -> None:
    bench = Bench()
    bench.create(route("a"))
    bench.snapshot(WEB)
    bench.replace(route("a", version="v2"))
    bench.replace(route("a", version="v1"))
    assert bench.delta(WEB, 1) is None


async def test_a_revision_that_was_never_looked_at_gets_all_that_was_touched() -> None:
    """It may have been seen elsewhere: then nothing that differs may be left out."""
    bench = Bench()
    bench.create(route("a"))
    bench.snapshot(WEB)
    bench.replace(route("a", version="v2"))
    bench.create(route("b", "ratings"))
    bench.remove("b")
    bench.replace(route("a", version="v1"))
    bench.snapshot(WEB)
    found = bench.delta(WEB, 2)
    assert found is not None
    assert (sorted(found.changed), found.removed) == (["reviews"], ("ratings",))


async def test_a_revision_that_is_not_known_is_a_gap() -> None:
    bench = Bench()
    bench.create(route("a"))
    with pytest.raises(Gap):
        bench.delta(WEB, 9)
    restarted = Plans(Mirror(bench.mirror.book))
    with pytest.raises(Gap):
        restarted.delta(WEB, 0)
    assert restarted.delta(WEB, 1) == (1, None)


async def test_the_same_event_is_put_together_once() -> None:
    bench = Bench()
    bench.create(route("a"))
    one, other = caller("one"), caller("other")
    assert bench.plans.snapshot(one)[1] is bench.plans.snapshot(other)[1]
    bench.create(route("b"))
    assert bench.plans.delta(one, 1)[1] is bench.plans.delta(other, 1)[1]


async def test_callers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans_module, "CALLERS_KEPT", 3)
    bench = Bench()
    bench.create(route("a"))
    for i in range(10):
        bench.plans.plan(caller(f"app-{i}"))
    assert len(bench.plans._callers) == 3
    bench.create(route("b"))
    found = bench.delta(caller("app-0"), 1)
    assert found is not None
    assert list(found.changed) == ["reviews"]


async def test_names_of_destinations_are_json() -> None:
    bench = Bench()
    bench.create(route("a", 'quo"te\\é'))
    assert list(bench.snapshot(WEB).destinations) == ['quo"te\\é']


steps = st.lists(
    st.tuples(
        st.sampled_from(["put", "drop", "look-web", "look-gateway"]),
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from(["", "web", "gateway"]),
        st.sampled_from(["v1", "v2"]),
    ),
    max_size=30,
)


@given(steps, st.integers(0, 30))
def test_followers_always_end_up_with_the_plan(script: list[tuple[str, str, str, str]], drop: int) -> None:
    """Whatever happens between looks, snapshot plus deltas is the Plan, and hashes say so."""
    import asyncio

    asyncio.run(follow(script, drop))


async def follow(script: list[tuple[str, str, str, str]], drop: int) -> None:
    bench = Bench()
    known: dict[Caller, tuple[int, dict[str, DestinationPlan]]] = {WEB: (0, {}), GATEWAY: (0, {})}
    for number, (act, name, source, version) in enumerate(
        [*script, ("look-web", "", "", ""), ("look-gateway", "", "", "")]
    ):
        if number == drop:  # all that the process knew of its callers is gone
            bench.plans = Plans(bench.mirror)
        if act == "put":
            made = (
                sourced(source, f"{name}-{source}", name, version)
                if source
                else route(f"{name}-", name, version)
            )
            (bench.replace if made.id in bench.mirror.book.rules else bench.create)(made)
        elif act == "drop":
            bench.remove(*[identity for identity in bench.mirror.book.rules if identity.startswith(name)][:1])
        else:
            who = WEB if act == "look-web" else GATEWAY
            revision, parts = known[who]
            delta = bench.delta(who, revision)
            if delta is not None:
                parts = {key: part for key, part in parts.items() if key not in delta.removed} | delta.changed
                assert delta.hash == hash_of(parts)
            known[who] = (bench.mirror.book.revision, parts)
    for who, (_, parts) in known.items():
        assert parts == bench.snapshot(who).destinations


def hash_of(parts: dict[str, DestinationPlan]) -> str:
    return plan_hash({name: part_hash(encode_part(part)) for name, part in parts.items()})
