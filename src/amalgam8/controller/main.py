"""The controller as a process: ``a8controller``. Puts the parts together, and takes them down in order."""

import asyncio
import time

from amalgam8.clients.http import Http
from amalgam8.clients.registry import RegistryClient
from amalgam8.controller import lapse, roster
from amalgam8.controller.api import controller_api
from amalgam8.controller.catalogue import Catalogue
from amalgam8.controller.memory import MemoryStore
from amalgam8.controller.metrics import Metrics
from amalgam8.controller.settings import REFUSED, ControllerSettings
from amalgam8.controller.sqlite import open_sqlite
from amalgam8.controller.store import Store
from amalgam8.controller.tenants import Tenants
from amalgam8.runtime.logs import Log
from amalgam8.runtime.service import run
from amalgam8.web.serve import bind, serving
from amalgam8.web.tenant import DEFAULT

_log = Log("controller")


def main() -> int:
    """The console script; returns the exit code."""
    return run("a8controller", ControllerSettings, control, refused=REFUSED, fast=True)


async def control(settings: ControllerSettings, _command: tuple[str, ...] = ()) -> int:
    """Serve until cancelled.

    Raises:
        InvalidSetting: the port or the database cannot be used.
    """
    listener = bind(settings.listen_host, settings.api_port, "api_port")
    try:
        store = await _open(settings)
        try:
            metrics = Metrics()
            tenants = Tenants(store, settings.fault_ttl, wrote=metrics.wrote, compiled=metrics.compiled)
            await tenants.open()
            metrics.watch(tenants, time.monotonic)
            catalogue = Catalogue(time.monotonic)
            app = controller_api(tenants, metrics, time.monotonic, catalogue=catalogue)
            async with asyncio.TaskGroup() as tasks, serving(app, listener) as port:
                tasks.create_task(lapse.follow(tenants))
                tasks.create_task(roster.follow(tenants))
                if settings.registry_url:
                    tasks.create_task(_follow_registry(settings, catalogue))
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


async def _follow_registry(settings: ControllerSettings, catalogue: Catalogue) -> None:
    """Keep the instances of the one tenant that there is."""
    registry = Http(settings.registry_url, settings.registry_token)
    try:
        await catalogue.follow(DEFAULT, RegistryClient(registry).watch())
    finally:
        await registry.close()


async def _open(settings: ControllerSettings) -> Store:
    if settings.database_type == "memory":
        return MemoryStore(settings.history_kept)
    return await open_sqlite(settings.database_path.expanduser(), settings.history_kept)
