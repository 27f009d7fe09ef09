"""Where the instance listens: its address as others see it, and whether it takes connections yet.

Refuses to guess a loopback address: other machines could not reach it, so it must be asked for by name.
"""

import asyncio
import contextlib
import fcntl
import socket
import struct

from amalgam8.model.errors import InvalidSetting
from amalgam8.model.instance import Endpoint
from amalgam8.runtime.logs import Log

CHECK_EVERY = 0.05
CONNECT_WITHIN = 1.0
MENTION_AFTER = 10.0

_SIOCGIFADDR = 0x8915  # linux/sockios.h: the IPv4 address of an interface

_log = Log("sidecar.endpoint")


def endpoint_of(kind: str, host: str, port: int) -> Endpoint:
    """The endpoint to register; an empty ``host`` stands for the first address of this machine.

    Raises:
        InvalidSetting: there is no such address.
    """
    host = host.strip("[]") or first_address()
    return Endpoint(kind, f"[{host}]:{port}" if ":" in host else f"{host}:{port}")


def first_address() -> str:
    """The first IPv4 address of this machine that is not loopback, by the order of its interfaces.

    Raises:
        InvalidSetting: it has none.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            with contextlib.suppress(OSError):  # an interface without an address
                answer = fcntl.ioctl(probe, _SIOCGIFADDR, struct.pack("16s24x", name.encode()[:15]))
                address = socket.inet_ntoa(answer[20:24])
                if not address.startswith("127."):
                    return address
    raise InvalidSetting("endpoint_host: missing, and this machine has no address but loopback; write one")


async def accepts(host: str, port: int) -> bool:
    """Whether something takes TCP connections there just now."""
    try:
        async with asyncio.timeout(CONNECT_WITHIN):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(CONNECT_WITHIN):
            await writer.wait_closed()
    return True


async def until_accepting(host: str, port: int, waiting: str = "") -> None:
    """Return once something takes TCP connections there, however long it takes.

    After MENTION_AFTER seconds the sentence ``waiting`` is logged, once.
    """
    loop = asyncio.get_running_loop()
    mention_at = loop.time() + MENTION_AFTER
    while not await accepts(host, port):
        if waiting and loop.time() >= mention_at:
            mention_at = float("inf")
            _log.warning(waiting, host=host, port=port)
        await asyncio.sleep(CHECK_EVERY)
