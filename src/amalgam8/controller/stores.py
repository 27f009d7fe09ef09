"""Opens the store of rules that the settings ask for. Redis' library is loaded only for Redis."""

import contextlib
import os
from collections.abc import AsyncIterator

import msgspec

from amalgam8.catalogs.kubernetes.catalog import KubernetesOptions, access_to
from amalgam8.catalogs.kubernetes.connect import SERVICE_ACCOUNT, Connection
from amalgam8.clients.redis_address import read_address
from amalgam8.controller.kubernetes import KubernetesStore
from amalgam8.controller.memory import MemoryStore
from amalgam8.controller.settings import ControllerSettings
from amalgam8.controller.sqlite import open_sqlite
from amalgam8.controller.store import Store
from amalgam8.model.errors import InvalidSetting
from amalgam8.runtime.beside import followed


@contextlib.asynccontextmanager
async def opened(settings: ControllerSettings) -> AsyncIterator[Store]:
    """The store inside the block.

    Raises:
        InvalidSetting: it cannot be used, or the library that it needs is not installed.
    """
    if settings.database_type == "redis":
        async with _redis(settings) as store:
            yield store
        return
    if settings.database_type == "kubernetes":
        async with _kubernetes(settings) as store:
            yield store
        return
    if settings.database_type == "memory":
        store = MemoryStore(settings.history_kept)
    else:
        store = await open_sqlite(settings.database_path.expanduser(), settings.history_kept)
    try:
        yield store
    finally:
        await store.close()


@contextlib.asynccontextmanager
async def _redis(settings: ControllerSettings) -> AsyncIterator[Store]:
    try:
        from amalgam8.clients.redis_link import Link
        from amalgam8.controller.redis import RedisStore
    except ModuleNotFoundError as error:
        raise InvalidSetting(
            f"database_type: redis needs the Python package {error.name}; install amalgam8[redis]"
        ) from None
    from amalgam8.controller.redis_scripts import SCRIPTS

    address = read_address(settings.database_host)
    if settings.database_username:
        address = msgspec.structs.replace(address, user=settings.database_username)
    link = Link(address, settings.database_password, scripts=SCRIPTS)
    store = RedisStore(link, kept=settings.history_kept)
    async with followed(store, link.close):
        yield store


@contextlib.asynccontextmanager
async def _kubernetes(settings: ControllerSettings) -> AsyncIterator[Store]:
    access = access_to(KubernetesOptions(url=settings.k8s_url, token=settings.k8s_token), os.environ)
    connection = Connection(access, watches=8)
    store = KubernetesStore(connection, _namespace(settings), kept=settings.history_kept)
    async with followed(store, connection.close):
        yield store


def _namespace(settings: ControllerSettings) -> str:
    """The namespace that holds the rules."""
    if settings.database_namespace:
        return settings.database_namespace
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return (SERVICE_ACCOUNT / "namespace").read_text().strip()
    return "default"
