"""What the instances stream has told so far. A state machine without I/O; the time is an argument.

Stale beats empty: a lost stream changes nothing, and a registry that comes back without its memory (a new
epoch) takes nothing away. What it knew before stays until it registered again, or until its lease time has
passed while the registry was there to register with. Refuses to know proxies and rules.
"""

from collections.abc import Iterable, Mapping

import msgspec

from amalgam8.model.instance import Instance
from amalgam8.model.report import RegistryStamp
from amalgam8.model.stream import Hello, InstanceDelta, InstanceSnapshot

LEASE = 60.0
"""Seconds that an instance is held that has no lease time of its own."""

Groups = Mapping[str, tuple[Instance, ...]]


class SeenInstances(msgspec.Struct, frozen=True):
    """Instances that take calls, by service and sorted by id; an unchanged group is the same object."""

    groups: Groups
    stamp: RegistryStamp


class InstanceView:
    """The registry's instances. ``seen`` is None until the first snapshot."""

    def __init__(self) -> None:
        self.seen: SeenInstances | None = None
        self._known: dict[str, Instance] = {}
        self._services: dict[str, dict[str, Instance]] = {}
        self._held: dict[str, float] = {}  # instances of a lost memory, and when they go
        self._epoch = ""

    @property
    def known(self) -> list[Instance]:
        """Every instance, in any status, sorted by service and id."""
        return sorted(self._known.values(), key=lambda instance: (instance.service_name, instance.id))

    @property
    def held(self) -> int:
        """How many instances are held that the registry has not confirmed since it lost its memory."""
        return len(self._held)

    @property
    def next_expiry(self) -> float | None:
        """When ``expire`` has something to do, if nothing else happens."""
        soonest = min(self._held.values(), default=float("inf"))
        return None if soonest == float("inf") else soonest

    def hello(self, event: Hello, now: float) -> None:
        """The stream is open. A new epoch turns all that is known into what is held."""
        if event.epoch != self._epoch:
            held: Iterable[str] = self._known
            self._epoch = event.epoch
        else:
            held = self._held
        self._held = {identity: now + (self._known[identity].ttl or LEASE) for identity in held}

    def lost(self) -> None:
        """The stream is gone: nobody can register now, so nothing that is held goes."""
        self._held = dict.fromkeys(self._held, float("inf"))

    def snapshot(self, event: InstanceSnapshot) -> None:
        """Replace everything but what is held."""
        fresh = {instance.id: instance for instance in event.instances}
        self._held = {identity: until for identity, until in self._held.items() if identity not in fresh}
        gone = [identity for identity in self._known if identity not in fresh and identity not in self._held]
        self._change(fresh.values(), gone)
        self._stamp(event.revision)

    def delta(self, event: InstanceDelta) -> None:
        for identity in (*(instance.id for instance in event.upserted), *event.removed):
            self._held.pop(identity, None)
        self._change(event.upserted, event.removed)
        self._stamp(event.revision)

    def expire(self, now: float) -> bool:
        """Let go what was held for long enough; says whether there was any."""
        gone = [identity for identity, until in self._held.items() if until <= now]
        for identity in gone:
            del self._held[identity]
        self._change((), gone)
        return bool(gone)

    def _change(self, upserted: Iterable[Instance], removed: Iterable[str]) -> None:
        touched: set[str] = set()
        for identity in removed:
            old = self._known.pop(identity, None)
            if old is not None:
                touched |= self._drop(old)
        for instance in upserted:
            old = self._known.get(instance.id)
            self._known[instance.id] = instance
            if old is not None and _same(old, instance):
                continue
            if old is not None:
                touched |= self._drop(old)
            if instance.status == "UP":
                self._services.setdefault(instance.service_name, {})[instance.id] = instance
                touched.add(instance.service_name)
        self._regroup(touched)

    def _drop(self, instance: Instance) -> set[str]:
        members = self._services.get(instance.service_name, {})
        return {instance.service_name} if members.pop(instance.id, None) is not None else set()

    def _regroup(self, touched: set[str]) -> None:
        if self.seen is None or not touched:
            return
        groups = dict(self.seen.groups)
        for name in touched:
            groups.pop(name, None)
            if members := self._services.get(name):
                groups[name] = _sorted(members)
            else:
                self._services.pop(name, None)
        self.seen = msgspec.structs.replace(self.seen, groups=groups)

    def _stamp(self, revision: int) -> None:
        stamp = RegistryStamp(self._epoch, revision)
        if self.seen is None:
            groups = {name: _sorted(members) for name, members in self._services.items() if members}
            self.seen = SeenInstances(groups, stamp)
        else:
            self.seen = msgspec.structs.replace(self.seen, stamp=stamp)


def _same(one: Instance, other: Instance) -> bool:
    """Whether calls to them are the same; heartbeats and metadata do not matter."""
    return (
        one.service_name == other.service_name
        and one.endpoint == other.endpoint
        and one.status == other.status
        and one.tags == other.tags
    )


def _sorted(members: Mapping[str, Instance]) -> tuple[Instance, ...]:
    return tuple(members[identity] for identity in sorted(members))
