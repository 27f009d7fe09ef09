"""This sidecar's share of budgets that the fleet shares, told to nginx, and what came to their limits.

Shares go to a table in nginx's shared memory and fill no bucket (``lua/a8/limit.lua``). An nginx that was
started again knows none, and is told anew. Refuses to wait for nginx: what does not arrive is sent again.
"""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from amalgam8.model.errors import Unreachable
from amalgam8.runtime.latest import Latest
from amalgam8.sidecar.nginx.process import Process
from amalgam8.sidecar.nginx.push import exchange
from amalgam8.sidecar.proxy import Demand

LOOK_EVERY = 0.5
"""Seconds between looks at whether nginx was started again, or has yet to take what it was told."""


_sample = msgspec.json.Decoder(tuple[list[Any], float]).decode


async def follow(slices: Latest[Mapping[str, float]], process: Process, control: Path) -> None:
    """Tell nginx each new set of shares; never returns."""
    told: tuple[int | None, int] = None, 0
    while True:
        try:
            async with asyncio.timeout(LOOK_EVERY):
                await slices.newer(told[1])
        except TimeoutError:
            pass
        now = process.pid, slices.version
        if now == told or not slices.value:
            continue
        try:
            status, _ = await exchange(control, "POST", "/slices", msgspec.json.encode(slices.value))
        except Unreachable:
            status = 0
        if status == 204:
            told = now
        else:
            await asyncio.sleep(LOOK_EVERY / 10)


async def demand(control: Path) -> dict[str, Demand]:
    """Calls that came to limits of the fleet's budgets so far, by rule; may raise Unreachable."""
    _, body = await exchange(control, "GET", "/figures")
    found: dict[str, dict[str, int]] = {}
    try:
        for labels, count in map(_sample, body.splitlines()):
            if labels[0] == "demand":
                _, rule, name = labels
                found.setdefault(rule, {})[name] = int(count)
    except (msgspec.MsgspecError, ValueError) as error:
        raise Unreachable(f"the proxy's figures cannot be read: {error}") from error
    return {rule: Demand(of.get("calls", 0), of.get("passed", 0)) for rule, of in found.items()}
