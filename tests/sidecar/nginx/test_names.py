"""Host names are looked up with the machine's own resolver."""

import asyncio
import contextlib

from amalgam8.sidecar.nginx.names import HostNames


async def test_names_are_looked_up_once_they_are_wanted() -> None:
    names = HostNames()
    task = asyncio.create_task(names.run())
    names.want({"localhost", "no-such-name.invalid"})
    async with asyncio.timeout(10):
        await names.asked()
    assert names.known.value["localhost"][0] == "127.0.0.1"
    assert "no-such-name.invalid" not in names.known.value
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
