"""The controller as a process: ``a8controller``. Puts the parts together, and takes them down in order."""

import asyncio
import time

from amalgam8.controller import lapse, roster, settle
from amalgam8.controller.api import controller_api
from amalgam8.controller.memory import MemoryStore
from amalgam8.controller.metrics import Metrics
from amalgam8.controller.rollouts import Rollouts
from amalgam8.controller.settings import REFUSED, ControllerSettings
from amalgam8.controller.sqlite import open_sqlite
from amalgam8.controller.store import Store
from amalgam8.controller.tenants import Tenants
from amalgam8.runtime.logs import Log
from amalgam8.runtime.service import run
from amalgam8.web.serve import bind, serving
from amalgam8.web.settings import auth_of, tls_of

_log = Log("controller")


def main() -> int:
    """The console script; returns the exit code."""
    return run("a8controller", ControllerSettings, control, refused=REFUSED, fast=True)


async def control(settings: ControllerSettings, _command: tuple[str, ...] = ()) -> int:
    """Serve until cancelled.

    Raises:
        InvalidSetting: the port, the database, a key or a certificate cannot be used.
    """
    auth, tls = auth_of(settings), tls_of(settings)
    listener = bind(settings.listen_host, settings.api_port, "api_port")
    try:
        store = await _open(settings)
        try:
            metrics = Metrics()
            tenants = Tenants(store, settings.fault_ttl, wrote=metrics.wrote, compiled=metrics.compiled)
            await tenants.open()
            metrics.watch(tenants, time.monotonic)
            rollouts = Rollouts(tenants, store.rollouts)
            app = controller_api(
                tenants, metrics, auth, time.monotonic, rollouts, require_https=settings.require_https
            )
            async with asyncio.TaskGroup() as tasks, serving(app, listener, tls) as port:
                tasks.create_task(lapse.follow(tenants))
                tasks.create_task(roster.follow(tenants))
                tasks.create_task(rollouts.follow())
                tasks.create_task(settle.follow(tenants, time.monotonic))
                _log.info(
                    "serving",
                    host=settings.listen_host,
                    port=port,
                    database=settings.database_type,
                    epoch=store.epoch,
                )
                await asyncio.Event().wait()
        finally:
            await store.close()
    finally:
        listener.close()
    return 0


async def _open(settings: ControllerSettings) -> Store:
    if settings.database_type == "memory":
        return MemoryStore(settings.history_kept)
    return await open_sqlite(settings.database_path.expanduser(), settings.history_kept)
