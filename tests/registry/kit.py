"""A registry for tests: served over a real socket, on a clock that the test moves."""

import contextlib
from collections.abc import AsyncIterator

from starlette.types import Receive, Scope, Send

from amalgam8.clients.http import Answer, Http
from amalgam8.clients.registry import RegistryClient
from amalgam8.registry.api import Registry
from amalgam8.registry.history import History
from amalgam8.registry.memory import MemoryStore
from amalgam8.registry.metrics import Metrics
from amalgam8.registry.registration import Ttls
from amalgam8.registry.store import Happened
from amalgam8.registry.watch import Watchers
from amalgam8.web.app import Api
from amalgam8.web.auth import Auth
from amalgam8.web.serve import bind, serving

JUST_NOW = 1_900_000_000.0
ANY_STATUS = range(400, 600)


class MemoryKit:
    """Makes memory stores in virtual time."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.happened: list[Happened] = []
        self.history = History(lambda: JUST_NOW + self.now)

    def make(self, capacity: int = -1, *, freeze_limit: float = 0) -> MemoryStore:
        return MemoryStore(
            capacity=capacity,
            freeze_limit=freeze_limit,
            clock=lambda: self.now,
            wall=lambda: JUST_NOW + self.now,
            observe=self._observe,
        )

    def _observe(self, event: Happened) -> None:
        self.happened.append(event)
        self.history.happened(event)

    def advance(self, seconds: float) -> None:
        self.now += seconds


class Running:
    """A served registry and clients of it."""

    def __init__(
        self, port: int, http: Http, kit: MemoryKit, store: MemoryStore, watchers: Watchers, app: Api
    ) -> None:
        self.app = app
        self.port = port
        self.http = http
        self.kit = kit
        self.store = store
        self.watchers = watchers
        self.client = RegistryClient(http)

    async def ask(
        self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """One request; whatever the status, the answer."""
        return await self.http.request(method, path, body, headers=headers, expect=ANY_STATUS)

    async def pass_time(self, seconds: float) -> None:
        self.kit.advance(seconds)
        await self.store.expire()


@contextlib.asynccontextmanager
async def running(
    *,
    capacity: int = -1,
    watchers_limit: int = 100,
    ttls: Ttls | None = None,
    port: int = 0,
    auth: Auth | None = None,
    token: str = "",
    require_https: bool = False,
    freeze_limit: float = 0,
    at_once: bool = True,
) -> AsyncIterator[Running]:
    """Serve a registry inside the block. Not ``at_once``: every request goes by ASGI."""
    kit = MemoryKit()
    store = kit.make(capacity, freeze_limit=freeze_limit)
    watchers = Watchers(store, watchers_limit)
    metrics = Metrics()
    metrics.watch(store, watchers, tuple, kit.history)
    registry = Registry(
        store, ttls or Ttls(), watchers, metrics, auth or Auth(), history=kit.history, clock=lambda: kit.now
    )
    app = registry.application(require_https=require_https)

    async def by_asgi(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope, receive, send)

    async with serving(app if at_once else by_asgi, bind("127.0.0.1", port, "api_port")) as bound:
        http = Http(f"http://127.0.0.1:{bound}", token, timeout=10)
        try:
            yield Running(bound, http, kit, store, watchers, app)
        finally:
            await http.close()
