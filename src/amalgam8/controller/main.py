"""The controller as a process: ``a8controller``. Puts the parts together, and takes them down in order."""

import asyncio
import time

from amalgam8.clients.http import Http
from amalgam8.clients.tls import client_context
from amalgam8.controller import lapse, outside, roster, settle, stores
from amalgam8.controller.api import controller_api
from amalgam8.controller.catalogue import Catalogue, Connect, whose
from amalgam8.controller.metrics import Metrics
from amalgam8.controller.rollouts import Rollouts
from amalgam8.controller.settings import REFUSED, ControllerSettings
from amalgam8.controller.tenants import Tenants
from amalgam8.runtime.logs import Log
from amalgam8.runtime.service import run
from amalgam8.web.auth import ADMIN, NAMESPACE_HEADER
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
    auth, tls, connect = auth_of(settings), tls_of(settings), connecting(settings)
    listener = bind(settings.listen_host, settings.api_port, "api_port")
    try:
        async with stores.opened(settings) as store:
            metrics = Metrics()
            tenants = Tenants(store, settings.fault_ttl, wrote=metrics.wrote, compiled=metrics.compiled)
            await tenants.open()
            metrics.watch(tenants, time.monotonic)
            catalogue = Catalogue(time.monotonic, connect)
            rollouts = Rollouts(tenants, store.rollouts)
            app = controller_api(
                tenants,
                metrics,
                auth,
                time.monotonic,
                rollouts,
                require_https=settings.require_https,
                catalogue=catalogue,
            )
            async with asyncio.TaskGroup() as tasks, serving(app, listener, tls) as port:
                tasks.create_task(lapse.follow(tenants))
                tasks.create_task(roster.follow(tenants))
                tasks.create_task(catalogue.run())
                if isinstance(store, outside.Edited):
                    tasks.create_task(outside.follow(tenants, store))
                if store.shared:
                    tasks.create_task(roster.share(tenants))
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
        listener.close()
    return 0


def connecting(settings: ControllerSettings) -> Connect:
    """How the instances of a tenant are seen: not at all without a registry, and by whom its token is for.

    Raises:
        InvalidSetting: certificates that cannot be used.
    """
    files = (settings.registry_ca_cert, settings.registry_client_cert, settings.registry_client_key)
    tls = client_context(*files, prefix="registry_")
    owner = whose(settings.registry_token)

    def connect(tenant: str) -> Http | None:
        if not settings.registry_url or owner not in (ADMIN, tenant):
            return None
        headers = {NAMESPACE_HEADER: tenant} if owner == ADMIN else {}
        return Http(settings.registry_url, settings.registry_token, tls=tls, headers=headers)

    return connect
