"""All catalogues at once: one fails and the others go on, the last data stay, states say how old they are."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

import pytest

from amalgam8.catalogs.catalog import NEVER_HEARD, Catalog, Teller
from amalgam8.catalogs.following import Catalogs, accepted
from amalgam8.catalogs.merge import Delta
from amalgam8.model.instance import Endpoint, Instance
from tests.catalogs.virtual import in_virtual_time


def one(identity: str, service: str = "reviews", value: str = "10.0.0.1:80") -> Instance:
    return Instance(identity, service, Endpoint("http", value), status="UP")


class Scripted:
    """A catalogue that does what a test says; ``runs`` counts how often it was run."""

    def __init__(self, name: str, script: Callable[[Teller, int], Awaitable[None]]) -> None:
        self.name = name
        self.runs = 0
        self._script = script

    async def run(self, teller: Teller) -> None:
        self.runs += 1
        await self._script(teller, self.runs)


def follow(seconds: float, *scripted: Scripted) -> tuple[Catalogs, list[Delta]]:
    """Run them for so many virtual seconds."""

    async def main() -> tuple[Catalogs, list[Delta]]:
        deltas: list[Delta] = []
        chosen: Sequence[Catalog] = scripted
        catalogs = Catalogs(chosen, changed=deltas.append, clock=asyncio.get_running_loop().time)
        try:
            async with asyncio.timeout(seconds):
                await catalogs.run()
        except TimeoutError:
            pass
        ages = [state.age for state in catalogs.states()]
        assert all(age is None or age >= 0 for age in ages)
        Ages.last = ages
        return catalogs, deltas

    return in_virtual_time(main())


class Ages:
    last: list[float | None] = []  # noqa: RUF012 - read after the loop and its clock are gone


async def steady(teller: Teller, _run: int) -> None:
    teller.found({"default": [one("s")]})
    await asyncio.Event().wait()


async def tells_then_fails(teller: Teller, _run: int) -> None:
    teller.found({"default": [one("a")], "shop": [one("b")]})
    await asyncio.sleep(10)
    teller.failed("it is away")
    await asyncio.Event().wait()


def test_the_last_data_stay_and_their_age_is_known() -> None:
    catalogs, deltas = follow(100, Scripted("flaky", tells_then_fails), Scripted("steady", steady))
    flaky, fine = catalogs.states()
    assert (flaky.healthy, flaky.reason, flaky.instances, flaky.failures) == (False, "it is away", 2, 1)
    assert Ages.last[0] == pytest.approx(100)
    assert (fine.healthy, fine.reason, fine.failures) == (True, "", 0)
    assert set(catalogs.of("default")) == {"a", "s"}
    assert set(catalogs.of("shop")) == {"b"}
    assert set(catalogs.tenants()) == {"default", "shop"}
    assert [delta.tenant for delta in deltas] == ["default", "shop", "default"]


def test_one_that_breaks_down_is_run_again_and_keeps_its_data(caplog: pytest.LogCaptureFixture) -> None:
    async def breaks(teller: Teller, run: int) -> None:
        if run < 5:
            teller.found({"default": [one("a")]})
            raise RuntimeError("a bug")
        await asyncio.Event().wait()

    broken = Scripted("broken", breaks)
    with caplog.at_level(logging.CRITICAL):
        catalogs, deltas = follow(100, broken, Scripted("steady", steady))
    assert broken.runs == 5
    assert catalogs.states()[0].reason == "it broke down: a bug"
    assert catalogs.states()[0].failures == 4
    assert set(catalogs.of("default")) == {"a", "s"}
    assert len(deltas) == 2, "telling the same again is no change"


def test_one_that_returns_is_run_again() -> None:
    async def returns(_teller: Teller, _run: int) -> None:
        return

    short = Scripted("short", returns)
    catalogs, _ = follow(100, short)
    assert 3 < short.runs < 20
    state = catalogs.states()[0]
    assert (state.healthy, state.age, state.reason) == (False, None, "it ended by itself")


def test_a_problem_with_a_part_is_no_loss_of_the_rest() -> None:
    async def partly(teller: Teller, _run: int) -> None:
        teller.found({"default": [one("a")]}, "shop.yaml is broken")
        await asyncio.Event().wait()

    catalogs, _ = follow(50, Scripted("file", partly))
    state = catalogs.states()[0]
    assert (state.healthy, state.reason, state.instances) == (False, "shop.yaml is broken", 1)


def test_found_ends_a_failure() -> None:
    async def recovers(teller: Teller, _run: int) -> None:
        teller.failed("away")
        teller.found({})
        await asyncio.Event().wait()

    assert follow(5, Scripted("a", recovers))[0].states()[0].healthy


def test_nothing_told_yet_is_not_healthy() -> None:
    async def silent(_teller: Teller, _run: int) -> None:
        await asyncio.Event().wait()

    state = follow(5, Scripted("a", silent))[0].states()[0]
    assert (state.healthy, state.age, state.instances) == (False, None, 0)


def test_equal_names_are_told_apart() -> None:
    catalogs, _ = follow(1, *(Scripted("eureka", steady) for _ in range(3)))
    assert [state.name for state in catalogs.states()] == ["eureka", "eureka-2", "eureka-3"]
    assert [state.hidden for state in catalogs.states()] == [0, 1, 1]


def test_a_failure_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    async def fails(teller: Teller, _run: int) -> None:
        for _ in range(20):
            teller.failed("away")
        teller.found({})
        await asyncio.Event().wait()

    with caplog.at_level(logging.INFO, "amalgam8"):
        follow(5, Scripted("a", fails))
    assert [record.getMessage() for record in caplog.records] == [
        "the catalogue cannot be read",
        "the catalogue can be read again",
    ]


def test_what_cannot_be_taken_is_left_out() -> None:
    good = one("good")
    bad = [
        one(""),
        one("x" * 600),
        one("good", value="10.0.0.2:80"),
        one("n", service="a/b"),
        Instance("t", "reviews", Endpoint("ftp", "10.0.0.1:80")),
        Instance("m", "reviews", Endpoint("http", "a:1"), tags=("a\nb",)),
    ]
    content, problems = accepted({"default": [good, *bad], "empty": bad[:1]}, {})
    assert list(content) == ["default"]
    assert list(content["default"]) == ["good"]
    assert problems.total() == len(bad) + 1


def test_equal_instances_stay_the_same_objects() -> None:
    before, _ = accepted({"default": [one("a"), one("b")]}, {})
    after, _ = accepted({"default": [one("a"), one("b", value="10.0.0.9:80")]}, before)
    assert after["default"]["a"] is before["default"]["a"]
    assert after["default"]["b"].endpoint.value == "10.0.0.9:80"
    assert after["default"]["b"].last_heartbeat == NEVER_HEARD
