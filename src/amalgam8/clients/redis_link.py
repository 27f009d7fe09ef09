"""The connection to Redis or Valkey: bounded, with a limit on every wait, its errors told as one kind.

It is up or down, and a change of that is logged once, with the reason. Refuses to try a command again:
what a lost answer did is for whoever asked to find out.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from amalgam8.clients.redis_address import RedisAddress
from amalgam8.model.errors import StoreUnavailable
from amalgam8.model.stored import LaterForm
from amalgam8.runtime.logs import Log

ANSWER_WITHIN = 3.0
"""Seconds for a connection, a command's answer, or a turn."""

FIRST_RETRY, LAST_RETRY = 0.05, 1.0
"""Seconds between attempts to begin again."""

AT_ONCE = 32
"""Commands under way; more wait for their turn."""

TROUBLES = (RedisError, OSError, TimeoutError)

_log = Log("redis")

Argument = str | bytes | int


class Link:
    """Runs ``scripts``, which are Lua, and reads streams. What asks the server may raise StoreUnavailable."""

    def __init__(self, address: RedisAddress, password: str = "", *, scripts: Sequence[str]) -> None:
        self._client, self._sentinels = _client(address, password)
        self._scripts = scripts
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._hashes: dict[str, str] = {}
        self._trouble: str | None = ""
        """None while it is up; what was logged last while it is down."""

    @property
    def up(self) -> bool:
        return self._trouble is None

    async def load(self) -> None:
        """Make the scripts known; once for each connection that was lost."""
        for script in self._scripts:
            self._hashes[script] = await self._guarded(self._client.script_load(script))

    async def run(self, script: str, keys: Sequence[str], *arguments: Argument) -> Any:
        command = self._client.evalsha(self._hashes.get(script, ""), len(keys), *keys, *arguments)
        return await self._guarded(command)

    async def run_each(self, calls: Sequence[tuple[str, Sequence[str], Sequence[Argument]]]) -> list[Any]:
        """Run scripts one after the other in one exchange; they are not one transaction."""
        pipe = self._client.pipeline(transaction=False)
        for script, keys, arguments in calls:
            pipe.evalsha(self._hashes.get(script, ""), len(keys), *keys, *arguments)
        # Were it to raise by itself, its error would quote all that was sent.
        replies = list(await self._guarded(pipe.execute(raise_on_error=False)))
        for reply in replies:
            if isinstance(reply, Exception):
                raise _unavailable(reply) from reply
        return replies

    async def read(
        self, places: dict[str, str], wait: float
    ) -> list[tuple[str, list[tuple[bytes, dict[bytes, bytes]]]]]:
        """Entries of streams after these places; waits up to ``wait`` seconds for the first."""
        found = await self._guarded(
            self._client.xread(places, count=1000, block=int(wait * 1000)),  # type: ignore[arg-type]  # dict is invariant
            within=ANSWER_WITHIN + wait,
            turn=False,
        )
        return [(name.decode(), entries) for name, entries in found or ()]

    def is_up(self) -> None:
        """It works (again)."""
        if self._trouble is not None:
            _log.info("the store answers")
        self._trouble = None

    def is_down(self, reason: str, *, lasting: bool = False) -> None:
        """It does not work; writes are refused until ``is_up``.

        A ``lasting`` reason, one that does not pass by itself, is told even if another was told before.
        """
        if not self._trouble or (lasting and reason != self._trouble):
            _log.warning("the store cannot be used: reads go on, writes are refused", reason=reason)
            self._trouble = reason or "unknown"

    async def follow(
        self, begin: Callable[[], Awaitable[None]], read: Callable[[], Awaitable[None]], tried: asyncio.Event
    ) -> None:
        """After each connection ``begin``, and then ``read`` again and again; until cancelled.

        ``tried`` is set once that worked, or did not for the first time. What raises StoreUnavailable, or
        ValueError for what nobody of ours wrote, is a reason to begin again, after a pause that grows.
        """
        wait = FIRST_RETRY
        while True:
            try:
                await begin()
                self.is_up()
                tried.set()
                while True:
                    await read()
                    wait = FIRST_RETRY
            except (StoreUnavailable, ValueError) as error:
                self.is_down(str(error), lasting=isinstance(error, LaterForm))
                tried.set()
            await self.drop()
            await asyncio.sleep(wait)
            wait = min(wait * 2, LAST_RETRY)

    async def drop(self) -> None:
        """Close all connections; the next command opens another."""
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                await self._client.connection_pool.disconnect()
        except TROUBLES:
            pass  # it was broken already

    async def close(self) -> None:
        """The end: close everything."""
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                for client in (self._client, *self._sentinels):
                    await client.aclose()
        except TROUBLES:
            pass

    async def _guarded(self, command: Any, *, within: float = ANSWER_WITHIN, turn: bool = True) -> Any:
        try:
            async with asyncio.timeout(within):
                if not turn:
                    return await _cancellable(command)
                async with self._turns:
                    return await _cancellable(command)
        except TROUBLES as error:
            raise _unavailable(error) from error
        finally:
            command.close()


async def _cancellable(command: Any) -> Any:
    """What the command returns, unless it swallowed that it was cancelled.

    The library sends with ``asyncio.wait_for``, which in Python 3.11 loses a cancellation that comes at the
    moment at which the sending is done.
    """
    task = asyncio.current_task()
    before = task.cancelling() if task is not None else 0
    answer = await command
    if task is not None and task.cancelling() > before:
        raise asyncio.CancelledError
    return answer


def _unavailable(error: BaseException) -> StoreUnavailable:
    return StoreUnavailable(f"the store cannot be used: {_reason(error)}")


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError) and not str(error):
        return "no answer in time"
    return str(error)[:200] or type(error).__name__


def _client(address: RedisAddress, password: str) -> tuple[Redis, list[Redis]]:
    """The server's client, and those of the sentinels that it asks."""
    options: dict[str, Any] = {
        "socket_timeout": ANSWER_WITHIN,
        "socket_connect_timeout": ANSWER_WITHIN,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        "password": password or None,
        "username": address.user or None,
        "db": address.database,
        "max_connections": AT_ONCE + 8,
    }
    if address.master:
        sentinel = Sentinel(  # type: ignore[no-untyped-call]  # redis has no types here
            list(address.hosts), sentinel_kwargs={"socket_timeout": ANSWER_WITHIN}, **options
        )
        return sentinel.master_for(address.master), sentinel.sentinels
    if address.path:
        return Redis(unix_socket_path=address.path, **options), []
    if address.tls:
        options |= {"ssl": True, "ssl_ca_certs": address.ca or None}
    host, port = address.hosts[0]
    return Redis(host=host, port=port, **options), []
