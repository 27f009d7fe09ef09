"""The Plans of all callers of one tenant, with as little work per change as can be.

Rules of a destination are compiled once for all callers that their sources do not tell apart, and the
part is encoded and hashed once. A caller's Plan is a map of such shared parts; a change recompiles the
destinations that it touches, for the callers that somebody asks about, when they ask. Bounded: callers
that nobody asked about for long are forgotten, and get a snapshot when they are back. No I/O.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping

import msgspec

from amalgam8.controller.book import Rulebook
from amalgam8.controller.store import Mirror
from amalgam8.model.caller import Caller
from amalgam8.model.rule import Rule
from amalgam8.routing.compile import compile, sources  # noqa: A004 - the field's own word
from amalgam8.routing.condition import fits
from amalgam8.routing.plan import encode_part, part_hash, plan_hash
from amalgam8.runtime.feed import Gap

CALLERS_KEPT = 4096
STEPS_KEPT = 1024
"""Revisions for which it is known exactly what they changed for a caller."""

ENCODED_KEPT = 8


Steps = deque[tuple[int, frozenset[str], str]]


class Part(msgspec.Struct, frozen=True):
    """One destination for one kind of caller: its JSON, and the hash of that."""

    hash: str
    encoded: bytes


class Plan(msgspec.Struct, frozen=True):
    """A caller's Plan at ``revision``, the newest at which it was looked at."""

    revision: int
    hash: str
    parts: Mapping[str, Part]


class Standing(msgspec.Struct, frozen=True):
    """Where a caller's Plan of some hash stands among those that this process has seen it in.

    ``revision`` is the newest that it had surely reached, -1 where the hash is not known; ``behind`` the
    destinations in which it differs from the present Plan, None: perhaps all.
    """

    revision: int
    behind: frozenset[str] | None


class _Destination:
    """The rules of one destination, and their parts by which of the sources fit."""

    def __init__(self, rules: tuple[Rule, ...]) -> None:
        self.rules = rules
        self.sources = sources(rules)
        self.parts: dict[tuple[bool, ...], Part | None] = {}


class _Followed:
    """A caller's Plan now and the steps that led to it: (revision looked at, destinations changed, hash)."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.steps: Steps = deque([(plan.revision, frozenset(), plan.hash)], STEPS_KEPT)


class Plans:
    """The Plans of one tenant. ``compiled`` is called for each compilation, for metrics."""

    def __init__(self, mirror: Mirror, compiled: Callable[[], None] = lambda: None) -> None:
        self._mirror = mirror
        self._compiled = compiled
        self._destinations: dict[str, _Destination] = {}
        self._callers: OrderedDict[Caller, _Followed] = OrderedDict()
        self._encoded: OrderedDict[tuple[object, ...], bytes] = OrderedDict()

    def plan(self, caller: Caller) -> Plan:
        """The caller's Plan at the newest revision."""
        return self._follow(caller).plan

    def part(self, caller: Caller, name: str) -> Part | None:
        """One destination of the caller's Plan now, without taking the caller for one who follows it."""
        return self._part(self._mirror.book, name, caller)

    def snapshot(self, caller: Caller) -> tuple[int, bytes]:
        """The data of a ``snapshot`` event and its revision."""
        plan = self.plan(caller)
        return plan.revision, self._shared(
            ("snapshot", plan.revision, plan.hash),
            lambda: _event(plan, b'"destinations":{' + _members(plan.parts) + b"}"),
        )

    def delta(self, caller: Caller, revision: int) -> tuple[int, bytes | None]:
        """The data of a ``delta`` event since ``revision``, None if nothing changed; and its revision.

        Raises:
            Gap: it is not known any more what the caller had then.
        """
        followed = self._follow(caller)
        plan = followed.plan
        changed = _changed(followed.steps, revision)
        if changed is None:
            # Not a state that this process has seen the caller in: all that was touched since goes out.
            changed = self._mirror.touched_since(revision)
        if not changed:
            return plan.revision, None
        return plan.revision, self._shared(
            ("delta", revision, plan.revision, plan.hash, changed), lambda: _delta(plan, changed)
        )

    def standing(self, caller: Caller, plan: str) -> Standing:
        """How far the Plan whose hash is ``plan`` is behind the caller's present one."""
        followed = self._follow(caller)
        found: set[str] = set()
        for at, changed, name in reversed(followed.steps):
            if name == plan:
                return Standing(at, frozenset(found))
            found |= changed
        return Standing(-1, None)

    def _follow(self, caller: Caller) -> _Followed:
        """The caller's record, brought up to the newest revision."""
        book = self._mirror.book
        followed = self._callers.get(caller)
        if followed is not None:
            self._callers.move_to_end(caller)
            if followed.plan.revision == book.revision:
                return followed
            try:
                touched = self._mirror.touched_since(followed.plan.revision)
            except Gap:
                followed = None
            else:
                self._step(followed, book, caller, touched)
        if followed is None:
            parts = self._parts(book, caller, book.by_destination)
            followed = _Followed(Plan(book.revision, _hash(parts), parts))
            self._callers[caller] = followed
            while len(self._callers) > CALLERS_KEPT:
                self._callers.popitem(last=False)
        return followed

    def _step(self, followed: _Followed, book: Rulebook, caller: Caller, touched: frozenset[str]) -> None:
        before = followed.plan
        now = self._parts(book, caller, touched)
        changed = frozenset(name for name in touched if before.parts.get(name) != now.get(name))
        if changed:
            parts = {name: part for name, part in before.parts.items() if name not in changed}
            parts.update((name, now[name]) for name in changed if name in now)
            followed.plan = Plan(book.revision, _hash(parts), parts)
        else:
            followed.plan = msgspec.structs.replace(before, revision=book.revision)
        followed.steps.append((book.revision, changed, followed.plan.hash))

    def _parts(self, book: Rulebook, caller: Caller, names: Iterable[str]) -> dict[str, Part]:
        found = ((name, self._part(book, name, caller)) for name in names)
        return {name: part for name, part in found if part is not None}

    def _part(self, book: Rulebook, name: str, caller: Caller) -> Part | None:
        rules = book.by_destination.get(name)
        if rules is None:
            self._destinations.pop(name, None)
            return None
        destination = self._destinations.get(name)
        if destination is None or destination.rules is not rules:
            destination = self._destinations[name] = _Destination(rules)
        kind = tuple(fits(source, caller) for source in destination.sources)
        if kind not in destination.parts:
            compiled = compile(rules, caller)
            self._compiled()
            encoded = b"" if compiled is None else encode_part(compiled)
            destination.parts[kind] = None if compiled is None else Part(part_hash(encoded), encoded)
        return destination.parts[kind]

    def _shared(self, key: tuple[object, ...], make: Callable[[], bytes]) -> bytes:
        """The same event for many watchers is put together once."""
        data = self._encoded.get(key)
        if data is None:
            data = self._encoded[key] = make()
            while len(self._encoded) > ENCODED_KEPT:
                self._encoded.popitem(last=False)
        return data


def _changed(steps: Steps, revision: int) -> frozenset[str] | None:
    """What changed after the step at exactly ``revision``; None if there was no such step."""
    found: set[str] = set()
    for at, changed, _ in reversed(steps):
        if at == revision:
            return frozenset(found)
        if at < revision:
            return None
        found |= changed
    return None


def _hash(parts: Mapping[str, Part]) -> str:
    return plan_hash({name: part.hash for name, part in parts.items()})


def _delta(plan: Plan, changed: frozenset[str]) -> bytes:
    parts = {name: plan.parts[name] for name in sorted(changed) if name in plan.parts}
    removed = msgspec.json.encode(sorted(changed - plan.parts.keys()))
    return _event(plan, b'"changed":{' + _members(parts) + b'},"removed":' + removed)


def _members(parts: Mapping[str, Part]) -> bytes:
    return b",".join(msgspec.json.encode(name) + b":" + part.encoded for name, part in parts.items())


def _event(plan: Plan, content: bytes) -> bytes:
    return b'{"revision":%d,"hash":"%s",' % (plan.revision, plan.hash.encode()) + content + b"}"
