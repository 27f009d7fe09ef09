"""What every catalogue keeps to, as checks that any test can call.

A test brings a Stage: the source of its catalogue, which it can fill, break and mend. CHECKS are coroutine
functions of a stage; each opens catalogues of its own, waits at the most ``within`` seconds for what must
happen, and raises Broken with a sentence if it does not. ``run_checks`` calls them all.
Refuses to know any test framework.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from amalgam8.catalogs.catalog import Catalog, Found
from amalgam8.model.errors import InvalidInstance
from amalgam8.model.instance import Instance
from amalgam8.model.instance_check import check_instance

WITHIN = 10.0
QUIET = 0.3
"""Seconds for which nothing may happen where nothing must."""

Services = Mapping[str, Sequence[str]]
"""Service → endpoints, each ``host:port``."""


class Broken(AssertionError):
    """The catalogue does not keep to the contract; the text says to which part."""


class Stage(Protocol):
    """The source that a catalogue is tried on, in the hands of a test."""

    tenant: str

    def catalog(self) -> Catalog:
        """A new catalogue on the source, one that looks often: periods of a tenth of a second are good."""

    async def put(self, services: Services) -> None:
        """Make the source hold exactly these, all of them up."""

    async def break_source(self) -> None:
        """Make the source unreadable: away, or holding nonsense."""

    async def mend_source(self) -> None:
        """Make it readable again, with what was put last."""


class Listener:
    """A Teller that remembers: ``told`` is a list of full sets, ``reasons`` of failures."""

    def __init__(self) -> None:
        self.told: list[dict[str, tuple[Instance, ...]]] = []
        self.reasons: list[str] = []
        self._news = asyncio.Event()

    def found(self, instances: Found, problem: str = "") -> None:
        self.told.append({tenant: tuple(some) for tenant, some in instances.items()})
        if problem:
            self.reasons.append(problem)
        self._tell()

    def failed(self, reason: str) -> None:
        self.reasons.append(reason)
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def until(self, holds: Callable[[], bool], what: str, within: float) -> None:
        """Wait until ``holds`` after something was told.

        Raises:
            Broken: not within that time; says ``what`` was waited for, and what was told last.
        """
        try:
            async with asyncio.timeout(within):
                while not holds():
                    await self._news.wait()
        except TimeoutError:
            last = self.told[-1] if self.told else "nothing"
            raise Broken(f"not within {within:g} s: {what}; told last: {last}; {self.reasons[-3:]}") from None


@contextlib.asynccontextmanager
async def running(catalog: Catalog, within: float = WITHIN) -> AsyncIterator[Listener]:
    """Run a catalogue inside the block.

    Raises:
        Broken: it raised, it returned, or it does not end when cancelled.
    """
    listener = Listener()
    task = asyncio.ensure_future(catalog.run(listener))
    try:
        yield listener
        if task.done():
            raise Broken(f"run ended by itself: {task.exception() or 'it returned'}")
    finally:
        task.cancel()
        _, pending = await asyncio.wait([task], timeout=within)
    if pending:
        raise Broken("run does not end when it is cancelled")
    count = len(listener.told)
    await asyncio.sleep(0)
    if len(listener.told) != count:
        raise Broken("something was told after the end")


def shown(listener: Listener, tenant: str, which: int = -1) -> dict[str, list[str]]:
    """One of the full sets told, the newest by default, as service → sorted endpoints; only what is UP."""
    found: dict[str, list[str]] = {}
    for one in listener.told[which].get(tenant, ()) if listener.told else ():
        if one.status == "UP":
            found.setdefault(one.service_name, []).append(one.endpoint.value)
    return {service: sorted(values) for service, values in found.items()}


async def _expect(stage: Stage, listener: Listener, services: Services, within: float) -> None:
    wanted = {service: sorted(values) for service, values in services.items() if values}

    def holds() -> bool:
        return bool(listener.told) and shown(listener, stage.tenant) == wanted

    await listener.until(holds, f"the full set {wanted}", within)


TWO = {"reviews": ["127.0.0.1:9001", "127.0.0.1:9002"], "ratings": ["127.0.0.1:9003"]}
LESS = {"reviews": ["127.0.0.1:9001"]}


async def full_set_first(stage: Stage, within: float = WITHIN) -> None:
    """What is told first is everything, not a part of it."""
    await stage.put(TWO)
    async with running(stage.catalog(), within) as listener:
        await listener.until(lambda: bool(listener.told), "a first full set", within)
        first = shown(listener, stage.tenant, 0)
        wanted = {service: sorted(values) for service, values in TWO.items()}
        if first != wanted:
            raise Broken(f"told first: {first}; there is {wanted}")


async def full_set_again_on_change(stage: Stage, within: float = WITHIN) -> None:
    """What comes and what goes leads to the full set again."""
    await stage.put(LESS)
    async with running(stage.catalog(), within) as listener:
        await _expect(stage, listener, LESS, within)
        await stage.put(TWO)
        await _expect(stage, listener, TWO, within)
        await stage.put(LESS)
        await _expect(stage, listener, LESS, within)


async def an_empty_source_is_told(stage: Stage, within: float = WITHIN) -> None:
    """A source without instances is something to tell, at first and later."""
    await stage.put({})
    async with running(stage.catalog(), within) as listener:
        await _expect(stage, listener, {}, within)
        await stage.put(LESS)
        await _expect(stage, listener, LESS, within)
        await stage.put({})
        await _expect(stage, listener, {}, within)


async def instances_can_be_taken(stage: Stage, within: float = WITHIN) -> None:
    """Ids are there and unique within a tenant; names, endpoints and tags are acceptable."""
    await stage.put(TWO)
    async with running(stage.catalog(), within) as listener:
        await _expect(stage, listener, TWO, within)
        for tenant, instances in listener.told[-1].items():
            identities = [one.id for one in instances]
            if not all(identities) or len(set(identities)) != len(identities):
                raise Broken(f"ids of {tenant!r} are empty or not unique: {sorted(identities)}")
            for one in instances:
                try:
                    check_instance(one)
                except InvalidInstance as error:
                    raise Broken(f"the instance {one.id!r} cannot be taken: {error}") from None


async def ids_survive_a_restart(stage: Stage, within: float = WITHIN) -> None:
    """The same instance has the same id in another run, and while others come and go."""
    seen: list[dict[tuple[str, str], str]] = []
    for services in (TWO, LESS, TWO):
        await stage.put(services)
        async with running(stage.catalog(), within) as listener:
            await _expect(stage, listener, services, within)
            told = listener.told[-1].get(stage.tenant, ())
            seen.append({(one.service_name, one.endpoint.value): one.id for one in told})
    for other in seen[1:]:
        for what in seen[0].keys() & other.keys():
            if seen[0][what] != other[what]:
                raise Broken(f"{what} was {seen[0][what]!r} and is now {other[what]!r}")


async def a_failure_takes_nothing_away(stage: Stage, within: float = WITHIN) -> None:
    """While the source is broken that is said, and nothing less is told; then it goes on."""
    await stage.put(TWO)
    async with running(stage.catalog(), within) as listener:
        await _expect(stage, listener, TWO, within)
        before = shown(listener, stage.tenant)
        await stage.break_source()
        await listener.until(lambda: bool(listener.reasons), "a failure", within)
        await asyncio.sleep(QUIET)
        if shown(listener, stage.tenant) != before:
            raise Broken(f"told while the source was broken: {shown(listener, stage.tenant)}")
        await stage.mend_source()
        await stage.put(LESS)
        await _expect(stage, listener, LESS, within)


async def a_broken_start_tells_nothing(stage: Stage, within: float = WITHIN) -> None:
    """A source that was never read is a failure, not an empty set; once it is mended, it is told."""
    await stage.put(TWO)
    await stage.break_source()
    try:
        async with running(stage.catalog(), within) as listener:
            await listener.until(lambda: bool(listener.reasons), "a failure", within)
            if any(any(instances.values()) for instances in listener.told):
                raise Broken(f"told while the source was broken: {listener.told[-1]}")
            await stage.mend_source()
            await _expect(stage, listener, TWO, within)
    finally:
        await stage.mend_source()


async def it_can_run_again(stage: Stage, within: float = WITHIN) -> None:
    """The same catalogue, cancelled and run again, begins with the full set."""
    await stage.put(TWO)
    catalog = stage.catalog()
    for services in (TWO, LESS):
        await stage.put(services)
        async with running(catalog, within) as listener:
            await _expect(stage, listener, services, within)


Check = Callable[..., Awaitable[None]]
CHECKS: tuple[Check, ...] = (
    full_set_first,
    full_set_again_on_change,
    an_empty_source_is_told,
    instances_can_be_taken,
    ids_survive_a_restart,
    a_failure_takes_nothing_away,
    a_broken_start_tells_nothing,
    it_can_run_again,
)


async def run_checks(stage: Stage, within: float = WITHIN) -> None:
    """Call every check on the stage, one after the other.

    Raises:
        Broken: by the first that fails.
    """
    for check in CHECKS:
        await check(stage, within)
