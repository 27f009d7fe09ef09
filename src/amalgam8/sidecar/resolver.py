"""Incremental resolve: a Routing kept up to date with the least work.

A change recomputes the services that it concerns and no other. A ServiceRouting that comes out equal
stays the same object, since proxies take identity as "nothing to do". Pure; the time is an argument.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from amalgam8.model.instance import Instance, address_of
from amalgam8.routing.plan import DestinationPlan
from amalgam8.routing.resolve import Names, Routing, ServiceRouting, Tags, resolve_service, services_used


class Resolver:
    """Holds the last Plan, the last instances, and the Routing that they make.

    ``pins`` are tags by service whose instances are wanted whatever the rules say.
    """

    def __init__(self, pins: Mapping[str, tuple[Tags, ...]] | None = None) -> None:
        self._pins = pins or {}
        self._names: Names | None = None
        self.routing: Routing = {}
        self._parts: Mapping[str, DestinationPlan] = {}
        self._groups: Mapping[str, tuple[Instance, ...]] = {}
        self._users: dict[str, set[str]] = {}  # service → other destinations whose parts use its instances
        self._lapses: dict[str, float] = {}

    @property
    def next_lapse(self) -> float | None:
        """When the next entry of a rule lapses, in seconds since the epoch."""
        return min(self._lapses.values(), default=None)

    def update(
        self,
        parts: Mapping[str, DestinationPlan],
        groups: Mapping[str, tuple[Instance, ...]],
        now: float,
        names: Names | None = None,
    ) -> bool:
        """Bring ``routing`` up to date; says whether it is another one now.

        What is the same object as last time counts as unchanged; ``now`` in seconds since the epoch,
        ``names`` as in ``resolve_service``.
        """
        changed = set(_differing(self._parts, parts))
        dirty = set(changed)
        for service in {*_differing(self._groups, groups), *self._renamed(groups, names)}:
            dirty.add(service)
            dirty |= self._users.get(service, set())
        dirty.update(name for name, lapse in self._lapses.items() if lapse <= now)
        for name in changed:
            self._use(name, self._parts.get(name), parts.get(name))
        self._parts, self._groups, self._names = parts, groups, names
        return self._recompute(dirty, now)

    def _use(self, name: str, old: DestinationPlan | None, new: DestinationPlan | None) -> None:
        for service in services_used(name, old) - {name}:
            users = self._users.get(service, set())
            users.discard(name)
            if not users:
                self._users.pop(service, None)
        for service in services_used(name, new) - {name}:
            self._users.setdefault(service, set()).add(name)

    def _renamed(self, groups: Mapping[str, tuple[Instance, ...]], names: Names | None) -> list[str]:
        """Services with an instance whose host name has other addresses now."""
        hosts = set(_differing(self._names or {}, names or {}))
        if not hosts:
            return []
        return [name for name, group in groups.items() if hosts.intersection(_hosts(group))]

    def _service(self, name: str, part: DestinationPlan | None, now: float) -> ServiceRouting:
        return resolve_service(name, part, self._groups, now, self._names, self._pins.get(name, ()))

    def _recompute(self, dirty: Iterable[str], now: float) -> bool:
        fresh: dict[str, ServiceRouting] | None = None
        for name in dirty:
            part = self._parts.get(name)
            known = part is not None or bool(self._groups.get(name))
            new = self._service(name, part, now) if known else None
            self._lapses.pop(name, None)
            if new is not None and new.lapses is not None:
                self._lapses[name] = new.lapses
            if new == self.routing.get(name):
                continue
            fresh = dict(self.routing) if fresh is None else fresh
            fresh.pop(name, None)
            if new is not None:
                fresh[name] = new
        if fresh is None:
            return False
        self.routing = fresh
        return True


def _hosts(group: Iterable[Instance]) -> Iterable[str]:
    return (address.host for each in group if (address := address_of(each.endpoint)) is not None)


def _differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Keys whose values are not the same object in both."""
    if old is new:
        return []
    found = [key for key, value in new.items() if old.get(key) is not value]
    return found + [key for key in old if key not in new]
