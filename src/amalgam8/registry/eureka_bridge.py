"""Puts a tenant's own leases into a Eureka: registers, renews and removes them as they come, change and go.

What is due is decided by ``eureka_board``. Several URLs are tried in order, beginning with the one that
answered last. While none answers, one request after another asks whether it is back, with pauses that grow;
then all goes on at a measured pace. Refuses to publish what a catalogue shows, what a registry published, and
what is registered there by itself. Nothing is removed as the registry ends: it may be back in a moment.
"""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from amalgam8.catalogs.eureka import EurekaOptions, links
from amalgam8.catalogs.eureka_document import decode, instance_id_of
from amalgam8.catalogs.eureka_link import Link
from amalgam8.catalogs.loader import read_options
from amalgam8.catalogs.refresh import Backoff, reason_of
from amalgam8.clients.http import Answer, segment
from amalgam8.model.errors import BadAnswer, StoreUnavailable, Unavailable, Unreachable
from amalgam8.registry.eureka_answer import extension_of
from amalgam8.registry.eureka_board import LEASE, Board, Outcome, Task, document, is_published, publishable
from amalgam8.registry.store import Store
from amalgam8.registry.view import Change, View
from amalgam8.runtime.logs import Log
from amalgam8.web.auth import DEFAULT

AT_ONCE = 8
"""Requests on their way at the most."""

RATE = 50.0
"""Requests begun in a second at the most, or twice of what renewals alone take, if that is more."""

LOOK_EVERY = 0.25
FIRST_PAUSE = 1.0
WARNED_OF = 100

_ANY = range(400, 600)
_AWAY = frozenset({401, 403, 502, 503, 504})
"""Statuses that speak of the server and not of the instance; another server may do better."""

_log = Log("registry.eureka")


class Bridging(msgspec.Struct, frozen=True):
    """How many stand there by the bridge's doing, and not yet as they should, and requests that failed."""

    tenant: str
    published: int
    waiting: int
    failures: int


def open_bridge(store: Store, urls: Sequence[str]) -> "Bridge":
    """A bridge for the tenant of the catalogue of the same URLs.

    Raises:
        InvalidSetting: a URL that is none.
    """
    chosen = read_options(EurekaOptions, "eureka", {"url": ",".join(urls)})
    return Bridge(store, links(chosen, connections=AT_ONCE), chosen.tenant)


class Bridge:
    """From ``store``, which holds leases alone, to the servers behind ``servers``, which know the same.

    ``lease`` is in seconds. ``clock`` counts seconds, ``wall`` is Unix time.
    """

    def __init__(
        self,
        store: Store,
        servers: Sequence[Link],
        tenant: str = DEFAULT,
        *,
        lease: float = LEASE,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._servers = list(servers)
        self._tenant = tenant
        self._lease = lease
        self._clock = clock
        self._wall = wall
        self._board = Board(lease, dice=random.random)
        self._backoff = Backoff(min(FIRST_PAUSE, lease / 10), lease / 6)
        self._view: View | None = None
        self._woken = asyncio.Event()
        self._busy = 0
        self._away = ""
        # Counts how often Eureka went and came back: what began before that says nothing of it any more.
        self._turns = 0
        self._not_before = float("-inf")
        self._failures = 0
        self._warned: set[str] = set()

    def state(self) -> Bridging:
        return Bridging(self._tenant, self._board.published(), self._board.waiting(), self._failures)

    async def run(self) -> None:
        """Publish until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                while True:
                    self._woken.clear()
                    self._follow()
                    task = self._next()
                    if task is None:
                        await self._wait()
                        continue
                    self._busy += 1
                    tasks.create_task(self._do(task))
                    await asyncio.sleep(min(1 / RATE, self._board.every / (2 * len(self._board))))
        finally:
            for server in self._servers:
                await server.close()

    def _next(self) -> Task | None:
        now = self._clock()
        if now < self._not_before or self._busy >= (1 if self._away else AT_ONCE):
            return None
        return self._board.take(now)

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(LOOK_EVERY):
                await self._woken.wait()
        except TimeoutError:
            return

    def _follow(self) -> None:
        """Follow the store's view; a store that begins anew has another."""
        try:
            view = self._store.view(self._tenant)
        except StoreUnavailable:
            return
        if view is not self._view:
            self._view = view
            view.feed.on_change(lambda change: self._heard(view, change))
            self._look_at_all(view)

    def _heard(self, view: View, change: Change | None) -> None:
        if view is not self._view:
            return
        if change is None:
            self._look_at_all(view)
        else:
            self._look(view, change.id)
        self._woken.set()

    def _look_at_all(self, view: View) -> None:
        for identity in {*self._board.ids(), *(lease.instance.id for lease in view)}:
            self._look(view, identity)

    def _look(self, view: View, identity: str) -> None:
        lease = view.get(identity)
        if lease is not None and publishable(lease.instance):
            self._board.want(lease.instance, self._clock())
        else:
            self._board.leave(identity, self._clock())

    async def _do(self, task: Task) -> None:
        outcome: Outcome = "unreachable"
        turns = self._turns
        try:
            outcome = await self._perform(task)
        except Unavailable as error:
            self._failures += 1
            if turns == self._turns:
                self._unreachable(reason_of(error))
        else:
            if turns == self._turns:
                self._reached()
        finally:
            self._busy -= 1
            self._board.settle(task, outcome, self._clock())
            self._woken.set()

    async def _perform(self, task: Task) -> Outcome:
        """Raises Unavailable where no server answers."""
        one = task.instance
        key = one.id.removeprefix(instance_id_of(one.service_name, ""))
        app = f"/apps/{segment(one.service_name.upper())}"
        at = f"{app}/{segment(key)}"
        if task.action == "renew":
            answer = await self._ask("PUT", at)
        elif task.action == "cancel":
            answer = await self._ask("DELETE", at)
        else:
            if task.first and await self._foreign(at):
                _log.debug("an instance is registered in Eureka by itself", **self._named(task))
                return "foreign"
            body = document(one, extension_of(one), lease=self._lease, wall=self._wall())
            answer = await self._ask("POST", app, body)
        if answer.status == 404 and task.action != "register":
            return "unknown"
        if answer.status >= 300:
            self._refused(task, answer)
            return "refused"
        if task.first or task.action == "cancel":
            what = "withdrawn from" if task.action == "cancel" else "published in"
            _log.info(f"an instance is {what} Eureka", **self._named(task))
        return "done"

    async def _foreign(self, at: str) -> bool:
        """Whether an instance stands there that no registry has published."""
        answer = await self._ask("GET", at)
        if answer.status != 200:
            return False
        found = decode(answer.body).get("instance")
        if not isinstance(found, dict):
            raise BadAnswer(f"{self._servers[0].url} answered a document without an instance")
        return not is_published(found.get("metadata"))

    async def _ask(self, method: str, path: str, body: Any = None) -> Answer:
        """The answer of the first server that gives one. Raises Unreachable where none does."""
        reasons, answer = [], None
        for server in list(self._servers):
            try:
                answer = await server.ask(method, path, body, expect=_ANY)
            except Unavailable as error:
                reasons.append(f"{server.url}: {error}")
                continue
            if answer.status >= 500 or answer.status in _AWAY:
                reasons.append(f"{server.url} answered with status {answer.status}")
                continue
            if server is not self._servers[0]:
                _log.info("another Eureka server is written to from now on", url=server.url)
                self._servers.remove(server)
                self._servers.insert(0, server)
            return answer
        # A 500 may be about this instance alone, as where there is no room for one more.
        if answer is not None and answer.status not in _AWAY:
            return answer
        raise Unreachable("; ".join(reasons))

    def _unreachable(self, reason: str) -> None:
        if not self._away:
            self._turns += 1
            _log.warning(
                "Eureka cannot be written to",
                tenant=self._tenant,
                reason=reason,
                so="what is published there ends if this lasts; all is published again after it",
            )
        self._away = reason
        self._not_before = self._clock() + self._backoff.next()

    def _reached(self) -> None:
        self._backoff.reset()
        self._not_before = float("-inf")
        if self._away:
            self._turns += 1
            self._away = ""
            _log.info("Eureka can be written to again", tenant=self._tenant)

    def _refused(self, task: Task, answer: Answer) -> None:
        self._failures += 1
        reason = f"{self._servers[0].url} answered {task.action} with status {answer.status}"
        if reason in self._warned:
            _log.debug("Eureka refuses an instance", reason=reason, **self._named(task))
            return
        if len(self._warned) >= WARNED_OF:
            self._warned.clear()
        self._warned.add(reason)
        _log.warning("Eureka refuses an instance", reason=reason, **self._named(task))

    def _named(self, task: Task) -> dict[str, str]:
        return {"tenant": self._tenant, "service": task.instance.service_name, "id": task.instance.id}
