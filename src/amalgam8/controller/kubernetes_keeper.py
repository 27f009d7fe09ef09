"""Keeps RoutingRules in step with the rules, and hears what people change in them.

A controller writes the objects of its own changes at once, and those of another controller's only where
that one has not done it for a while. Refuses to overwrite what somebody is editing: that becomes a change,
or is judged invalid in the object's status.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from functools import partial

from amalgam8.catalogs.kubernetes.connect import Connection
from amalgam8.catalogs.kubernetes.objects import Key
from amalgam8.clients.http import Refusal
from amalgam8.controller import kubernetes_objects as objects
from amalgam8.controller.book import Rulebook, Written
from amalgam8.controller.kubernetes_objects import RuleObject
from amalgam8.controller.kubernetes_sync import Step, step
from amalgam8.controller.outside import Edit
from amalgam8.model.errors import Unavailable
from amalgam8.model.rule import Rule
from amalgam8.runtime.logs import Log

RETRY = 1.0
"""Seconds until an object that could not be written is tried again."""

_log = Log("store")


class Keeper:
    """The RoutingRules below ``base``. ``book_of``: a tenant's rules; ``idle`` is called when all is done."""

    def __init__(
        self,
        connection: Connection,
        base: str,
        book_of: Callable[[str], Rulebook],
        idle: Callable[[], object],
    ) -> None:
        self.rules: dict[str, RuleObject] = {}
        self._connection = connection
        self._path = f"{base}/{objects.RULES}"
        self._book_of = book_of
        self._idle = idle
        self._due: dict[str, tuple[str, str, float]] = {}
        self._news = asyncio.Event()
        self._edits: asyncio.Queue[Edit] = asyncio.Queue()
        self._editing: set[str] = set()
        self._refused: dict[str, str] = {}
        self._gone: dict[str, int] = {}
        self._failing = False

    @property
    def busy(self) -> bool:
        """Whether objects have yet to be looked at."""
        return bool(self._due)

    def of(self, tenant: str) -> list[RuleObject]:
        """The objects of a tenant."""
        return [one for one in self.rules.values() if one.tenant == tenant]

    async def edits(self) -> AsyncIterator[Edit]:
        """What people change, one after another; never ends by itself."""
        while True:
            yield await self._edits.get()

    def replaced(self, found: Mapping[Key, RuleObject]) -> None:
        """All objects that there are now."""
        for name in self.rules.keys() - {name for _, name in found}:
            self.changed(("", name), None)
        for key, one in found.items():
            self.changed(key, one)

    def changed(self, key: Key, one: RuleObject | None) -> None:
        """One object now; None: it is gone."""
        name = key[1]
        before = self.rules.pop(name, None)
        self._editing.discard(name)
        if one is not None:
            self.rules[name] = one
            self._gone.pop(name, None)
        elif before is not None and before.revision is not None:
            self._gone[name] = before.revision
        shown = one or before
        if shown is not None:
            self.look_at(shown.tenant, shown.note(objects.ID) or name, name)

    def look_at(self, tenant: str, identity: str, name: str, after: float = 0.0) -> None:
        """Look at a rule and its object, in so many seconds."""
        self._due[name] = (tenant, identity, asyncio.get_running_loop().time() + after)
        self._news.set()

    def look_at_all(self) -> None:
        """Look at every object there is."""
        for name, one in self.rules.items():
            self.look_at(one.tenant, one.note(objects.ID) or name, name)

    async def clear_away(self, names: Iterable[str]) -> None:
        """Remove what an import left that never came to its end; raises as the connection does."""
        for name in names:
            _log.info("clearing away what an import left that never ended", name=name)
            await self._delete(name)

    async def work(self) -> None:
        """Look at what is due until cancelled."""
        clock = asyncio.get_running_loop().time
        while True:
            self._news.clear()
            now = clock()
            for name in [name for name, (_, _, at) in self._due.items() if at <= now]:
                tenant, identity, _ = self._due.pop(name)
                try:
                    await self._keep_in_step(tenant, identity, name)
                    self._failing = False
                except (Unavailable, Refusal) as error:
                    self.look_at(tenant, identity, name, RETRY)
                    if not self._failing:
                        _log.warning("an object cannot be written", name=name, reason=str(error))
                    self._failing = True
            if not self._due:
                self._idle()
            wait = min((at for _, _, at in self._due.values()), default=now + 3600) - clock()
            try:
                async with asyncio.timeout(max(wait, 0.0)):
                    await self._news.wait()
            except TimeoutError:
                pass

    async def _keep_in_step(self, tenant: str, identity: str, name: str) -> None:
        book, one = self._book_of(tenant), self.rules.get(name)
        rule, written = book.rules.get(identity), book.written.get(identity, Written())
        found = step(rule, written, one, book.revision, seen=self._gone.get(name))
        if rule is not None and name != objects.rule_name(tenant, identity):
            taken = Step("invalid", message=f"there is a rule {identity} already")
            found = taken if one is not None and not one.judged else Step("nothing")
        if name in self._refused and found.what == "edit":
            found = Step("invalid", message=self._refused.pop(name))
        if found.what == "write" and rule is not None:
            await self._write(tenant, rule, written, name, one)
        elif found.what == "remove":
            await self._delete(name)
        elif found.what in ("valid", "invalid") and one is not None:
            await self._judge(name, one, found, written.revision)
        elif found.what in ("edit", "removed") and name not in self._editing:
            self._editing.add(name)
            refused = partial(self._refuse, tenant, identity, name)
            self._edits.put_nowait(Edit(tenant, identity, found.rule, refused))

    def _refuse(self, tenant: str, identity: str, name: str, reason: str) -> None:
        """An edit was not taken: say so in the object."""
        self._refused[name] = reason
        self._editing.discard(name)
        self.look_at(tenant, identity, name)

    async def _write(
        self, tenant: str, rule: Rule, written: Written, name: str, one: RuleObject | None
    ) -> None:
        body = objects.rule_object(tenant, rule, written)
        if one is None:
            await self._connection.send("POST", self._path, body, expect=(409,))
            return
        body["metadata"]["resourceVersion"] = one.metadata.resource_version
        await self._connection.send("PUT", f"{self._path}/{name}", body, expect=(404, 409))

    async def _judge(self, name: str, one: RuleObject, found: Step, revision: int) -> None:
        body = objects.status_of(one, found.what, found.message, revision if found.what == "valid" else 0)
        await self._connection.send(
            "PATCH", f"{self._path}/{name}/status", body, expect=(404, 409), merge=True
        )

    async def _delete(self, name: str) -> None:
        await self._connection.send("DELETE", f"{self._path}/{name}", expect=(404, 409))
