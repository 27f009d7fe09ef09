"""A controller in this process on a real socket, with a clock of the test's own where it wants one."""

import contextlib
import time
from collections.abc import AsyncIterator, Callable

from amalgam8.clients.controller import ControllerClient
from amalgam8.clients.http import Http
from amalgam8.controller.api import controller_api
from amalgam8.controller.catalogue import Catalogue
from amalgam8.controller.memory import MemoryStore
from amalgam8.controller.metrics import Metrics
from amalgam8.controller.rollouts import Rollouts
from amalgam8.controller.store import Store
from amalgam8.controller.tenants import Tenants
from amalgam8.web.app import Api
from amalgam8.web.auth import Auth
from amalgam8.web.serve import bind, serving


class Clock:
    """Stands still until it is told otherwise."""

    def __init__(self) -> None:
        self.seconds = 1_900_000_000.0

    def __call__(self) -> float:
        return self.seconds


class Controller:
    """What a test holds of a running controller."""

    def __init__(
        self, http: Http, tenants: Tenants, metrics: Metrics, port: int, app: Api, rollouts: Rollouts
    ) -> None:
        self.app = app
        self.http = http
        self.client = ControllerClient(http)
        self.tenants = tenants
        self.metrics = metrics
        self.port = port
        self.rollouts = rollouts


@contextlib.asynccontextmanager
async def running(
    store: Store | None = None,
    *,
    now: Callable[[], float] = time.time,
    clock: Callable[[], float] = time.monotonic,
    auth: Auth | None = None,
    require_https: bool = False,
    catalogue: Catalogue | None = None,
) -> AsyncIterator[Controller]:
    metrics = Metrics()
    store = store or MemoryStore()
    tenants = Tenants(store, 3600.0, now=now, clock=clock, wrote=metrics.wrote, compiled=metrics.compiled)
    await tenants.open()
    metrics.watch(tenants, clock)
    rollouts = Rollouts(tenants, store.rollouts, clock)
    app = controller_api(
        tenants, metrics, auth or Auth(), clock, rollouts, require_https=require_https, catalogue=catalogue
    )
    async with serving(app, bind("127.0.0.1", 0, "api_port")) as port:
        http = Http(f"http://127.0.0.1:{port}", connections=64)
        try:
            yield Controller(http, tenants, metrics, port, app, rollouts)
        finally:
            await http.close()
