"""A program that is a client of Eureka: base URL, seconds between heartbeats, seconds of lease.

It registers, writes a line once it has discovered ``DETAILS`` and one for ``LATE``, and leaves when its input
ends. A process of its own, since the client's threads never end.
"""

import asyncio
import json
import logging
import os
import sys

from py_eureka_client.eureka_client import EurekaClient


async def main(base: str, interval: int, duration: int) -> None:
    client = EurekaClient(
        eureka_server=base,
        app_name="Orders",
        instance_id="host-1:orders:7000",
        instance_host="127.0.0.1",
        instance_ip="127.0.0.1",
        instance_port=7000,
        metadata={"amalgam8.tags": "v2"},
        renewal_interval_in_secs=interval,
        duration_in_secs=duration,
    )
    await client.start()
    print("started", flush=True)
    for name in ("DETAILS", "LATE"):
        while not (found := client.applications.get_application(name).up_instances):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        one = found[0]
        print(json.dumps([one.hostName, one.port.port, one.port.enabled, one.metadata]), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await client.stop()


logging.disable()
asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
os._exit(0)
