"""Follows all catalogues at once and shows them as one, with the state of each.

What a catalogue tells is checked, merged and handed on as changes. One that fails keeps its last data, one
that breaks down is started again; neither disturbs the others. Refuses to let a catalogue empty itself by
failing: only a full set that says so does.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from amalgam8.catalogs.catalog import NEVER_HEARD, Catalog, Found
from amalgam8.catalogs.merge import ById, Delta, Merged
from amalgam8.catalogs.refresh import Backoff, reason_of
from amalgam8.model.errors import InvalidInstance
from amalgam8.model.instance import Instance
from amalgam8.model.instance_check import check_instance
from amalgam8.runtime.logs import Log

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
INSTANCES_LIMIT = 500_000
"""Instances of one catalogue, in all tenants; what comes after is left out."""
ID_LIMIT = 512

_log = Log("catalogs")


class State(msgspec.Struct, frozen=True):
    """How one catalogue is. Totals over all tenants.

    ``age`` is the number of seconds since the source was last read, None before the first time.
    ``reason`` may name tenants: it is for the log, not for answers that everybody may read.
    """

    name: str
    healthy: bool
    reason: str
    age: float | None
    instances: int
    hidden: int
    refused: int
    failures: int


class Catalogs:
    """The catalogues, of which an earlier one wins where ids meet.

    ``changed`` is called with each change as it is told, in the event loop. ``clock`` counts seconds.
    """

    def __init__(
        self,
        catalogs: Sequence[Catalog],
        *,
        changed: Callable[[Delta], None] = lambda _delta: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._merged = Merged(len(catalogs))
        self._changed = changed
        self._followed = [
            _Followed(self, layer, name, catalog, clock)
            for layer, (name, catalog) in enumerate(zip(_names(catalogs), catalogs, strict=True))
        ]

    async def run(self) -> None:
        """Follow all of them until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for followed in self._followed:
                tasks.create_task(followed.keep_running())

    def tenants(self) -> Iterable[str]:
        """Those that have an instance in any catalogue."""
        return self._merged.tenants()

    def of(self, tenant: str) -> Mapping[str, Instance]:
        """The tenant's instances by id; do not keep it across changes."""
        return self._merged.of(tenant)

    def states(self) -> list[State]:
        """How each is, in order."""
        return [followed.state(self._merged.hidden(followed.layer)) for followed in self._followed]

    def put(self, layer: int, content: Mapping[str, ById]) -> None:
        """Take a layer's content and hand the changes on."""
        for delta in self._merged.replace(layer, content):
            self._changed(delta)


class _Followed:
    """One catalogue, and what is known of it; the Teller that it is given."""

    def __init__(
        self, owner: Catalogs, layer: int, name: str, catalog: Catalog, clock: Callable[[], float]
    ) -> None:
        self.layer = layer
        self._owner = owner
        self._name = name
        self._catalog = catalog
        self._clock = clock
        self._content: dict[str, ById] = {}
        self._told: float | None = None
        self._reason = ""
        self._refused = 0
        self._failures = 0
        self._backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE)

    async def keep_running(self) -> None:
        while True:
            try:
                await self._catalog.run(self)
                reason = "it ended by itself"
            except Exception as error:
                _log.error("a catalogue broke down", exc_info=error, catalog=self._name)
                reason = f"it broke down: {reason_of(error)}"
            self.failed(reason)
            await asyncio.sleep(self._backoff.next())

    def found(self, instances: Found, problem: str = "") -> None:
        content, problems = accepted(instances, self._content)
        self._refused = problems.total()
        for why, count in problems.most_common(5):
            _log.debug("instances are left out", catalog=self._name, count=count, reason=why)
        self._told = self._clock()
        self._backoff.reset()
        if problem:
            self._note(problem)
        elif self._reason:
            self._reason = ""
            _log.info("the catalogue can be read again", catalog=self._name)
        self._content = content
        self._owner.put(self.layer, content)

    def failed(self, reason: str) -> None:
        self._failures += 1
        self._note(reason)

    def _note(self, reason: str) -> None:
        if reason != self._reason:
            age = self._age()
            kept = "nothing is known yet" if age is None else f"the data are {age:.0f} s old and are kept"
            _log.warning("the catalogue cannot be read", catalog=self._name, reason=reason, so=kept)
        self._reason = reason

    def state(self, hidden: int) -> State:
        instances = sum(len(by_id) for by_id in self._content.values())
        healthy = not self._reason and self._told is not None
        return State(
            self._name, healthy, self._reason, self._age(), instances, hidden, self._refused, self._failures
        )

    def _age(self) -> float | None:
        return None if self._told is None else self._clock() - self._told


def accepted(found: Found, before: Mapping[str, ById]) -> tuple[dict[str, ById], Counter[str]]:
    """What can be taken of what was told, by id, and why how many cannot.

    Objects of ``before`` are used again where they are equal, so that what is unchanged is cheap to tell.
    """
    content: dict[str, ById] = {}
    problems: Counter[str] = Counter()
    room = INSTANCES_LIMIT
    for tenant, instances in found.items():
        known = before.get(tenant, {})
        taken: ById = {}
        for one in instances:
            if not one.last_heartbeat:
                one = msgspec.structs.replace(one, last_heartbeat=NEVER_HEARD)
            old = known.get(one.id)
            # What was taken before needs no look again: of thousands told, few have changed.
            if old is not None and (old is one or old == one) and one.id not in taken and room > 0:
                room -= 1
                taken[one.id] = old
                continue
            problem = "more instances than a catalogue may have" if room <= 0 else _problem(one, taken)
            if problem:
                problems[problem] += 1
                continue
            room -= 1
            taken[one.id] = one
        if taken:
            content[tenant] = taken
    return content, problems


def _problem(one: Instance, taken: ById) -> str:
    if not one.id or len(one.id) > ID_LIMIT:
        return f"the id is empty or longer than {ID_LIMIT} characters"
    if one.id in taken:
        return "another instance has the same id"
    try:
        check_instance(one)
    except InvalidInstance as error:
        return str(error)
    return ""


def _names(catalogs: Sequence[Catalog]) -> list[str]:
    """Names by which to tell them apart: the second ``eureka`` is ``eureka-2``."""
    seen: Counter[str] = Counter()
    names = []
    for catalog in catalogs:
        seen[catalog.name] += 1
        count = seen[catalog.name]
        names.append(catalog.name if count == 1 else f"{catalog.name}-{count}")
    return names
