"""Who of a mesh is not ready yet, and why: asked of the registry and the controller themselves."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Mapping, Sequence

from amalgam8.cli.connect import Target
from amalgam8.cli.mesh import App
from amalgam8.clients.controller import SidecarRow
from amalgam8.model.caller import caller
from amalgam8.model.errors import A8Error

Missing = dict[str, str]
"""Label of a process → what it lacks. Empty: all are ready."""

ASK_WITHIN = 5.0
GATEWAY = "gateway:version=none"
"""The gateway's service, as rules with a source know it."""


async def servers(target: Target) -> Missing:
    """Whether registry and controller answer."""
    missing: Missing = {}
    async with target.registry() as registry, target.controller() as controller:
        if not await _answers(registry.services()):
            missing["registry"] = "does not answer"
        if not await _answers(controller.sidecars()):
            missing["controller"] = "does not answer"
    return missing


async def mesh(target: Target, host: str, gateway_port: int, apps: Mapping[int, App]) -> Missing:
    """Whether each app, by its port, is registered, and each sidecar's proxy follows the rules."""
    missing: Missing = {}
    try:
        async with (
            asyncio.timeout(ASK_WITHIN),
            target.registry() as registry,
            target.controller() as controller,
        ):
            instances = await registry.instances()
            sidecars = await controller.sidecars()
    except (A8Error, TimeoutError):
        return await servers(target) or {"registry": "was slow to answer"}
    registered = {
        (instance.service_name, instance.endpoint.value) for instance in instances if instance.status == "UP"
    }
    proxies = _Proxies(sidecars)
    for port, app in apps.items():
        lacks = [
            *([] if (app.service, f"{host}:{port}") in registered else ["not registered"]),
            *proxies.lacking(app.service, app.tags),
        ]
        if lacks:
            missing[app.label] = ", ".join(lacks)
    service, _, tag = GATEWAY.partition(":")
    if not await _accepts(host, gateway_port):
        missing["gateway"] = "does not listen"
    elif lacks := proxies.lacking(service, (tag,)):
        missing["gateway"] = ", ".join(lacks)
    return missing


class _Proxies:
    """Sidecars by service and tags: several may have the same, and any of them will do for each."""

    def __init__(self, rows: Sequence[SidecarRow]) -> None:
        self._applied = Counter(caller(row.service, row.tags) for row in rows if row.state == "applied")
        self._others = {caller(row.service, row.tags): row for row in rows if row.state != "applied"}

    def lacking(self, service: str, tags: tuple[str, ...]) -> list[str]:
        """What one more sidecar of that name lacks, if anything."""
        who = caller(service, tags)
        if self._applied[who]:
            self._applied[who] -= 1
            return []
        other = self._others.get(who)
        if other is None:
            return ["its proxy has not reported"]
        return [f"its proxy is {other.state}" + (f" ({other.reason})" if other.reason else "")]


async def _answers(asked: Awaitable[object]) -> bool:
    try:
        async with asyncio.timeout(ASK_WITHIN):
            await asked
    except (A8Error, TimeoutError):
        return False
    return True


async def _accepts(host: str, port: int) -> bool:
    try:
        async with asyncio.timeout(ASK_WITHIN):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True
