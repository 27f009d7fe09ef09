"""One tenant of a shared store as a controller follows it: entry by entry, or anew.

Entries of the log are applied in the order of their revisions, each once, whoever brings them. Refuses to
skip one: where some are missing it says so, and a snapshot has to fill in. Knows no connection.
"""

from collections.abc import Sequence

from amalgam8.controller import redis_rows as rows
from amalgam8.controller import redis_scripts as scripts
from amalgam8.controller.book import Change, Rulebook
from amalgam8.controller.store import Mirror, Said
from amalgam8.model.caller import Caller
from amalgam8.runtime.latest import Latest


class Followed:
    """A tenant's mirror, how far it goes, and what is known of its sidecars.

    ``stamp`` names the last change, so that another one of the same revision is told from it.
    """

    def __init__(self, tenant: str, snapshot: rows.Snapshot) -> None:
        self.tenant = tenant
        self.keys = scripts.keys_of(tenant)
        self.log_key, self.said_key = self.keys[2], self.keys[5]
        self.mirror = Mirror(snapshot.book, _touched(snapshot))
        self.stamp = snapshot.stamp
        self.said_to = snapshot.said_to
        self.roster: dict[str, Caller] = {}
        self.words: dict[str, Said] = {}
        self._recent = [entry.change for entry in snapshot.entries if entry.change is not None]
        self._moved = Latest(self.seen)

    @property
    def seen(self) -> int:
        return self.mirror.book.revision

    def take(self, entry: rows.Entry) -> bool:
        """Take the next entry, or one that is in already. False: all there is has to be loaded."""
        if entry.revision <= self.seen:
            return True
        if entry.change is None or entry.restored or entry.revision > self.seen + 1:
            return False
        self.mirror.take(entry.change)
        self.stamp = entry.stamp
        self._recent = [*self._recent[1 - scripts.TOUCHED :], entry.change]
        self._moved.set(self.seen)
        return True

    def load(self, snapshot: rows.Snapshot, *, anew: bool) -> None:
        """Show what the snapshot has, unless later changes are in by now; ``anew``: in another epoch."""
        self.said_to = snapshot.said_to
        if anew or snapshot.book.revision > self.seen:
            self.replace(snapshot.book, snapshot.stamp, anew=anew)
            self._recent = [entry.change for entry in snapshot.entries if entry.change is not None]

    def replace(self, book: Rulebook, stamp: str, *, anew: bool = False) -> None:
        self.mirror.replace(book, anew=anew)
        self.stamp = stamp
        self._recent = []
        self._moved.set(self.seen)

    def recent(self) -> list[Change]:
        """The latest changes without a hole up to what is seen, oldest first."""
        found = self._recent
        return found if found and found[-1].revision == self.seen else []

    def keep(self, said: Said) -> None:
        """Remember what is known of a sidecar; what it wants is of the moment."""
        if said.wants is not None:
            return
        if said.who is None:
            self.roster.pop(said.id, None)
            self.words.pop(said.id, None)
            return
        self.roster[said.id] = said.who
        if said.report is not None:
            self.words[said.id] = said

    async def reaches(self, revision: int) -> None:
        """Return once the mirror is there; cancel to stop waiting."""
        while self.seen < revision:
            await self._moved.newer(self._moved.version)


def _touched(snapshot: rows.Snapshot) -> list[tuple[int, frozenset[str]]]:
    """Destinations that the latest changes touched, from the last hole in the log on."""
    found: list[tuple[int, frozenset[str]]] = []
    for entry in snapshot.entries:
        if entry.change is None or (found and found[-1][0] != entry.revision - 1):
            found.clear()
        if entry.change is not None:
            found.append((entry.revision, entry.change.destinations))
    return found if found and found[-1][0] == snapshot.book.revision else []


def whole(book: Rulebook, changes: Sequence[Change], stamp: str, *, lost: bool) -> list[str | bytes | int]:
    """A whole tenant, as the script RESTORE takes it; ``changes`` oldest first."""
    rules = list(book.rules.values())
    return [
        *(book.newest, rows.encode(book.unconfirmed), stamp, book.revision, "lost" if lost else ""),
        *(len(rules), *rows.pairs(rules, book), *rows.history(changes)),
    ]
