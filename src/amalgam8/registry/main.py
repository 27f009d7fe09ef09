"""The registry as a process: ``a8registry``. Puts the parts together, and takes them down in order."""

import asyncio

from amalgam8.catalogs.loader import open_catalogs
from amalgam8.registry.api import Registry
from amalgam8.registry.catalogued import CataloguedStore
from amalgam8.registry.eureka_bridge import open_bridge
from amalgam8.registry.history import History
from amalgam8.registry.lease_log import LeaseLog
from amalgam8.registry.metrics import Metrics
from amalgam8.registry.settings import REFUSED, RegistrySettings
from amalgam8.registry.store import Happened, Store
from amalgam8.registry.stores import opened
from amalgam8.registry.watch import Watchers
from amalgam8.runtime.logs import Log
from amalgam8.runtime.service import run
from amalgam8.web.serve import bind, serving
from amalgam8.web.settings import auth_of, tls_of

EXPIRE_EVERY = 0.25
"""Seconds between looks at which leases have lapsed; a look costs nothing where none has."""

_log = Log("registry")


def main() -> int:
    """The console script; returns the exit code."""
    return run("a8registry", RegistrySettings, serve, refused=REFUSED, fast=True)


async def serve(settings: RegistrySettings, _command: tuple[str, ...] = ()) -> int:
    """Serve until cancelled.

    Raises:
        InvalidSetting: the port cannot be listened on; a key, a certificate or a catalogue cannot be used.
    """
    auth, tls = auth_of(settings), tls_of(settings)
    chosen = open_catalogs(settings.catalogs)
    listener = bind(settings.listen_host, settings.api_port, "api_port")
    try:
        metrics, history, log = Metrics(), History(), LeaseLog()

        def observe(happened: Happened) -> None:
            metrics.happened(happened)
            if happened.what != "renewed":  # of which there are too many to be read
                history.happened(happened)
                log.happened(happened)

        async with opened(
            settings.store,
            settings.store_address,
            settings.store_password,
            capacity=settings.namespace_capacity,
            freeze_limit=settings.freeze_limit,
            observe=observe,
        ) as leases:
            store = CataloguedStore(leases, chosen) if chosen else leases
            states = store.catalogs.states if isinstance(store, CataloguedStore) else tuple
            watchers = Watchers(store)
            bridge = open_bridge(leases, settings.eureka_url) if settings.eureka_publish else None
            metrics.watch(store, watchers, states, history, bridge.state if bridge else None)
            app = Registry(store, settings.ttls, watchers, metrics, auth, states, history).application(
                require_https=settings.require_https
            )
            async with asyncio.TaskGroup() as tasks, serving(app, listener, tls) as port:
                tasks.create_task(expire_for_ever(store, log))
                if isinstance(store, CataloguedStore):
                    tasks.create_task(store.catalogs.run())
                if bridge is not None:
                    tasks.create_task(bridge.run())
                _log.info(
                    "serving", host=settings.listen_host, port=port, store=settings.store, epoch=store.epoch
                )
                await asyncio.Event().wait()
    finally:
        listener.close()
    return 0


async def expire_for_ever(store: Store, log: LeaseLog) -> None:
    """End leases as they lapse."""
    while True:
        await asyncio.sleep(EXPIRE_EVERY)
        await store.expire()
        log.settle()
