"""One rollout in virtual time: good versions and bad, no traffic, late sidecars, hands that meddle."""

import msgspec
import pytest

from amalgam8.controller import rollout_driver, rulebook
from amalgam8.controller.book import Rulebook
from amalgam8.controller.rollout import Order
from amalgam8.controller.rollout_rules import HOLD
from amalgam8.controller.rollouts import Rollouts
from amalgam8.controller.rulebook import Selection
from amalgam8.controller.tenants import Tenant
from tests.controller.rules import route
from tests.controller.world import ORDER, World, world


def versions(book: Rulebook) -> dict[str, str]:
    return {rule.id: rule.route.backends[0].tags[0] for rule in book.rules.values() if rule.route is not None}


def texts(made: World, rollout: object) -> str:
    return "\n".join(event.text for event in rollout.events)  # type: ignore[attr-defined]


async def test_a_good_version_becomes_the_default() -> None:
    made = await world()
    rollout = await made.start()
    shares = set()
    while rollout.active:
        rollout = await made.run(0.25)
        shares.add(made.split().get("v2", 0.0))
    assert rollout.state == "done"
    assert shares == {0.05, 0.5, 1.0}
    assert versions(made.tenant.mirror.book) == {"base": "v2"}
    assert "5 %: good: v2: 1" in texts(made, rollout)
    # One step needs an interval and little more.
    assert made.clock() - 1_900_000_000 < 3 * (10 + 4)


async def test_one_with_errors_is_taken_back_within_two_intervals() -> None:
    made = await world()
    made.errors = {"v2": 0.05, "v1": 0.001}
    await made.start()
    rollout = await made.ended(within=2 * ORDER.interval)
    assert rollout.state == "failed"
    assert "5 % of " in rollout.reason
    assert versions(made.tenant.mirror.book) == {"base": "v1"}
    assert made.split() == {"v1": 1}


async def test_what_fails_for_both_is_not_the_new_versions_fault() -> None:
    made = await world()
    made.errors = {"v2": 0.05, "v1": 0.06}
    await made.start()
    assert (await made.ended()).state == "failed"  # at 100 % there is nothing to hold it against
    assert (await made.rollout()).step == 2


async def test_a_slow_one_is_taken_back() -> None:
    made = await world()
    made.seconds = {"v1": 3, "v2": 8}
    await made.start(msgspec.structs.replace(ORDER, max_p99=0.1))
    rollout = await made.ended()
    assert (rollout.state, rollout.step) == ("failed", 0)
    assert "100 ms are allowed" in rollout.reason


async def test_without_traffic_it_is_inconclusive() -> None:
    made = await world(rate=0)
    await made.start()
    rollout = await made.ended(within=40)
    assert (rollout.state, rollout.step) == ("inconclusive", 0)
    assert "only 0 calls" in rollout.reason
    assert versions(made.tenant.mirror.book) == {"base": "v1"}


async def test_a_version_without_instances_has_failed() -> None:
    made = await world()
    made.without_instances = {"v2"}
    await made.start()
    assert (await made.ended()).state == "failed"


async def test_a_step_comes_only_once_every_sidecar_confirmed_the_one_before() -> None:
    made = await world()
    await made.start()
    late = made.sidecars[1]
    await made.run(100, until=lambda one: one.step == 1)
    late.follows = False
    await made.run(rollout_driver.CONFIRM_WITHIN - 5)
    assert (await made.rollout()).step == 1
    late.follows = True
    await made.run(100, until=lambda one: one.step == 2)
    late.follows = False
    rollout = await made.ended()
    assert rollout.state == "inconclusive"
    assert late.id in rollout.reason


async def test_a_proxy_that_refuses_ends_it() -> None:
    made = await world()
    made.sidecars[2].rejects = True
    await made.start()
    rollout = await made.ended()
    assert rollout.state == "failed"
    assert "refuses it: reviews: no" in rollout.reason


async def test_who_does_not_count_is_not_waited_for() -> None:
    made = await world()
    tenant = made.tenant
    await made.start()
    tenant.calls.forget(made.sidecars[0].id)
    assert (await made.ended()).state == "done"


async def test_paused_it_stays_and_is_watched() -> None:
    made = await world()
    rollout = await made.start()
    await made.run(100, until=lambda one: one.step == 1)
    await made.rollouts.pause(made.tenant, rollout.id)
    await made.run(3 * HOLD)
    assert made.split() == {"v2": 0.5, "v1": 0.5}
    await made.rollouts.resume(made.tenant, rollout.id)
    await made.run(ORDER.interval - 1)
    assert (await made.rollout()).step == 1  # a whole interval again
    await made.rollouts.pause(made.tenant, rollout.id)
    made.errors = {"v2": 0.5}
    assert (await made.ended()).state == "failed"


async def test_aborted_it_returns() -> None:
    made = await world()
    rollout = await made.start()
    await made.run(15)
    await made.rollouts.abort(made.tenant, rollout.id)
    assert (await made.ended(within=3)).state == "aborted"
    assert versions(made.tenant.mirror.book) == {"base": "v1"}


async def change(made: World, *rules: object) -> None:
    await made.tenants.write(made.tenant, lambda book, write: rulebook.replace(book, rules, write))  # type: ignore[arg-type]


async def remove(made: World, identity: str) -> None:
    which = Selection(ids=(identity,))
    await made.tenants.write(made.tenant, lambda book, write: rulebook.remove(book, which, write))


async def test_somebody_changed_the_default_route() -> None:
    made = await world()
    await made.start()
    await made.run(5)
    await change(made, route("base", version="v7"))
    rollout = await made.ended(within=3)
    assert (rollout.state, rollout.reason) == ("aborted", "the default route base was changed")
    assert versions(made.tenant.mirror.book) == {"base": "v7"}


async def test_somebody_changed_or_removed_its_rule() -> None:
    for how in ("change", "remove", "rollback"):
        made = await world()
        started = await made.start()
        await made.run(5)
        if how == "change":
            await change(made, route(started.rule, version="v9"))
        elif how == "remove":
            await remove(made, started.rule)
        else:
            await made.tenants.rollback(made.tenant, 1)
        rollout = await made.ended(within=3)
        assert rollout.state == "aborted"
        assert rollout.reason == f"the rule {started.rule} was {'changed' if how == 'change' else 'removed'}"
        left = versions(made.tenant.mirror.book)
        assert left == {"base": "v1"} | ({started.rule: "v9"} if how == "change" else {})


async def test_its_share_lapses_if_nobody_drives_it_and_comes_back_with_the_controller() -> None:
    made = await world()
    await made.start()
    await made.run(100, until=lambda one: one.step == 1)
    await made.run(1)
    driven, made.rollouts = made.rollouts, Undriven()  # type: ignore[assignment]
    for _ in range(int(HOLD * 4)):
        made.clock.seconds += 0.25
        await made.tick()
    assert made.split() == {"v1": 1}
    assert versions(made.tenant.mirror.book) == {"base": "v1"}
    made.rollouts = Rollouts(made.tenants, made.store.rollouts, made.clock)
    assert driven is not made.rollouts
    await made.run(1)
    assert made.split() == {"v2": 0.5, "v1": 0.5}
    assert (await made.ended()).state == "done"


class Undriven:
    """Nobody looks at rollouts."""

    async def look(self) -> bool:
        return False

    async def all(self, _tenant: Tenant) -> list[object]:
        return []


async def test_a_driver_that_is_made_anew_judges_the_step_again() -> None:
    made = await world()
    await made.start()
    await made.run(ORDER.interval - 1)
    made.rollouts = Rollouts(made.tenants, made.store.rollouts, made.clock)
    await made.run(ORDER.interval - 1)
    assert (await made.rollout()).step == 0
    assert (await made.ended()).state == "done"


async def test_its_end_is_put_off_now_and_then_only() -> None:
    made = await world()
    await made.start(Order("reviews", ("v2",), (50.0, 100.0), interval=600.0))
    await made.run(600)
    assert made.split() == {"v2": 0.5, "v1": 0.5}
    assert made.tenant.mirror.book.revision <= 2 + 600 / (HOLD / 2)


@pytest.mark.parametrize("spoken", [1, 0])
async def test_what_is_going_on_can_be_seen(spoken: int) -> None:
    made = await world()
    started = await made.start()
    await made.run(8 if spoken else 0.25)
    shown = made.rollouts.shown(made.tenant, started)
    assert shown.now is not None
    assert shown.now["phase"] == ("judging" if spoken else "waiting")
    if spoken:
        assert shown.now["new"]["requests"] > 50
        assert shown.now["old"]["requests"] > 1000
