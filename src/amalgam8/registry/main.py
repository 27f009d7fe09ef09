"""The registry as a process: ``a8registry``. Puts the parts together, and takes them down in order."""

import asyncio

from amalgam8.registry.api import Registry
from amalgam8.registry.memory import MemoryStore
from amalgam8.registry.metrics import Metrics
from amalgam8.registry.settings import REFUSED, RegistrySettings
from amalgam8.registry.store import Happened, Store
from amalgam8.registry.watch import Watchers
from amalgam8.runtime.logs import Log
from amalgam8.runtime.service import run
from amalgam8.web.serve import bind, serving

EXPIRE_EVERY = 0.25
"""Seconds between looks at which leases have lapsed; a look costs nothing where none has."""

_log = Log("registry")


def main() -> int:
    """The console script; returns the exit code."""
    return run("a8registry", RegistrySettings, serve, refused=REFUSED)


async def serve(settings: RegistrySettings, _command: tuple[str, ...] = ()) -> int:
    """Serve until cancelled.

    Raises:
        InvalidSetting: the port cannot be listened on.
    """
    listener = bind(settings.listen_host, settings.api_port, "api_port")
    try:
        metrics = Metrics()

        def observe(happened: Happened) -> None:
            metrics.happened(happened)
            if happened.what != "renewed":
                _log.info(
                    f"instance {happened.what}",
                    tenant=happened.tenant,
                    service=happened.service,
                    id=happened.id,
                )

        store = MemoryStore(capacity=settings.namespace_capacity, observe=observe)
        watchers = Watchers(store)
        metrics.watch(store, watchers)
        app = Registry(store, settings.ttls, watchers, metrics).application()
        async with asyncio.TaskGroup() as tasks, serving(app, listener) as port:
            tasks.create_task(expire_for_ever(store))
            _log.info(
                "serving", host=settings.listen_host, port=port, store=settings.store, epoch=store.epoch
            )
            await asyncio.Event().wait()
    finally:
        listener.close()
    return 0


async def expire_for_ever(store: Store) -> None:
    """End leases as they lapse."""
    while True:
        await asyncio.sleep(EXPIRE_EVERY)
        await store.expire()
