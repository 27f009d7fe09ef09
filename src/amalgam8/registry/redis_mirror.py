"""One tenant's instances as the shared store has them, mirrored into a View: entry by entry, or anew.

Entries are applied in the order of their revisions, each once, whoever brings them. Refuses to skip one:
where some are missing it says so, and a snapshot has to fill in. Knows no connection.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, get_args

import msgspec

from amalgam8.model.instance import Instance
from amalgam8.registry.lease import Lease
from amalgam8.registry.redis_scripts import SECOND, keys_of
from amalgam8.registry.store import Happened, Observer, What
from amalgam8.registry.view import Change, View
from amalgam8.runtime.feed import Feed
from amalgam8.runtime.latest import Latest

_WHAT: frozenset[str] = frozenset(get_args(What))
decode_instance = msgspec.json.Decoder(Instance).decode


class Entry(NamedTuple):
    """One change as the scripts write it: ``heard`` in microseconds, ``body`` the instance's JSON."""

    revision: int
    what: What
    id: str
    heard: int
    body: bytes


class Snapshot(NamedTuple):
    """All of a tenant at a revision; ``stamp`` is the time of its last entry, ``heard`` by id."""

    revision: int
    stamp: int
    instances: Mapping[str, bytes]
    heard: Mapping[str, int]


class MirrorFeed(Feed[Change]):
    """A feed whose followers can be told to come back and begin again: their connections end."""

    def __init__(self) -> None:
        super().__init__()
        self._ended = False

    def end(self) -> None:
        self._ended = True
        self.reset(-1)

    def since(self, revision: int) -> tuple[int, list[Change]]:
        self._check()
        return super().since(revision)

    async def newer(self, revision: int) -> int:
        reached = await super().newer(revision)
        self._check()
        return reached

    def _check(self) -> None:
        if self._ended:
            raise ConnectionResetError("the store has begun another epoch")


class Mirror:
    """``seen`` and ``stamp`` name the last entry applied; ``heard_to`` how far renewals were followed."""

    def __init__(self, tenant: str, observe: Observer) -> None:
        self.tenant = tenant
        self.keys = keys_of(tenant)
        self.loaded = False
        self.frozen = False
        self.stamp = 0
        self.heard_to = 0
        self.view = _view()
        self._observe = observe
        self._quiet = False
        self._moved = Latest(0)

    @property
    def seen(self) -> int:
        return self.view.feed.revision

    async def reaches(self, revision: int) -> None:
        """Return once the entry of this revision is in; cancel to stop waiting."""
        while self.seen < revision:
            await self._moved.newer(self._moved.version)

    def apply(self, entry: Entry) -> bool:
        """Take the next entry, or one that is in already. False: some before it are missing."""
        if entry.revision <= self.seen:
            return True
        if entry.revision > self.seen + 1:
            return False
        lease = self.view.get(entry.id)
        if entry.body:
            self._put(lease, decode_instance(entry.body), entry.heard)
        elif lease is not None:
            self.view.drop(lease)
        else:
            return False
        self.stamp = entry.heard
        self._moved.set(entry.revision)
        shown = self.view.get(entry.id) or lease
        if shown is not None:
            self.told(entry.what, shown)
        return True

    def replace(self, snapshot: Snapshot, *, anew: bool = False, quiet: bool = False) -> None:
        """Show what the snapshot has, unless later entries are in by now.

        ``anew``: revisions begin again in another epoch, so that whoever follows has to come back.
        ``quiet``: what it has was there before this mirror, and did not happen now.
        """
        if self.loaded and not anew and snapshot.revision <= self.seen:
            return
        self._quiet = quiet
        before = self.view
        if anew:
            self.view = _view()
        for lease in list(before):
            if lease.instance.id not in snapshot.instances:
                if not anew:
                    before.drop(lease)
                self.told("removed", lease)
        for identity, body in snapshot.instances.items():
            self._show(before.get(identity), decode_instance(body), snapshot.heard.get(identity, 0))
        self.view.feed.reset(snapshot.revision)
        if anew and isinstance(before.feed, MirrorFeed):
            before.feed.end()
        self.stamp = snapshot.stamp
        self.heard_to = max(snapshot.heard.values(), default=self.heard_to)
        self.loaded = True
        self._quiet = False
        self._moved.set(snapshot.revision)

    def renewed(self, identity: str, heard: int) -> None:
        """A lease was heard of, at this time in microseconds."""
        lease = self.view.get(identity)
        if lease is not None and heard / SECOND > lease.heard:
            lease.renew(heard / SECOND, heard / SECOND)

    def freezes(self, frozen: bool) -> None:
        """Whether expiry is frozen, as of a look at the store; a change is told."""
        if frozen and not self.frozen:
            reason = "many leases are late at once: none of them is ended"
            self._observe(Happened(self.tenant, "frozen", "", "", reason=reason))
        elif self.frozen and not frozen:
            reason = "renewals are back, or it was frozen for as long as it may be"
            self._observe(Happened(self.tenant, "thawed", "", "", reason=reason))
        self.frozen = frozen

    def told(self, what: What, lease: Lease) -> None:
        """Say what has happened."""
        if not self._quiet:
            one = lease.instance
            self._observe(Happened(self.tenant, what, one.service_name, one.id, one.status))

    def contents(self) -> Iterator[str | bytes]:
        """Id, seconds of lease, JSON and time of each instance, as the script RESTORE takes them."""
        for lease in self.view:
            yield lease.instance.id
            yield str(seconds_of(lease.instance))
            yield msgspec.json.encode(lease.instance)
            yield str(round(lease.heard * SECOND))

    def _show(self, before: Lease | None, instance: Instance, heard: int) -> None:
        if before is None or before.instance != instance:
            self._put(self.view.get(instance.id), instance, heard)
            self.told("registered" if before is None else "changed", Lease(self.tenant, instance, 0, 0))
        elif self.view.get(instance.id) is None:
            self._put(None, instance, heard)
        else:
            self.renewed(instance.id, heard)

    def _put(self, lease: Lease | None, instance: Instance, heard: int) -> None:
        at = heard / SECOND
        if lease is None:
            lease = Lease(self.tenant, instance, at, at)
        else:
            lease.replace(instance)
            lease.renew(at, at)
        self.view.put(lease)


def seconds_of(instance: Instance) -> int:
    """How long its lease holds; 0: for ever."""
    return 0 if instance.status == "OUT_OF_SERVICE" else instance.ttl


def entry_of_reply(reply: Sequence[bytes]) -> Entry:
    """An entry as scripts return it."""
    revision, what, identity, heard, body = reply
    return Entry(int(revision), _what(what), identity.decode(), int(heard), body)


def entry_of_stream(place: bytes, fields: Mapping[bytes, bytes]) -> Entry:
    """An entry as the stream has it.

    Raises:
        ValueError: nobody of ours wrote it.
    """
    try:
        what, identity, heard = fields[b"what"], fields[b"id"], fields[b"heard"]
        return Entry(int(place.split(b"-")[0]), _what(what), identity.decode(), int(heard), fields[b"body"])
    except KeyError as error:
        raise ValueError(f"the stream's entry {place.decode()} has no {error}") from None


def snapshot_of_reply(reply: Sequence[Any]) -> Snapshot:
    """What the script LOAD returns after its status."""
    revision, stamp, instances, heard = reply
    bodies = {
        identity.decode(): value.partition(b" ")[2]
        for identity, value in zip(instances[::2], instances[1::2], strict=True)
    }
    return Snapshot(int(revision), int(stamp), bodies, times(heard))


def times(reply: Sequence[bytes]) -> dict[str, int]:
    """Ids and their scores."""
    return {identity.decode(): int(float(at)) for identity, at in zip(reply[::2], reply[1::2], strict=True)}


def _what(text: bytes) -> What:
    word: Any = text.decode()
    if word not in _WHAT:
        raise ValueError(f"{word[:20]!r} is nothing that happens to an instance")
    what: What = word
    return what


def _view() -> View:
    view = View()
    view.feed = MirrorFeed()
    return view
