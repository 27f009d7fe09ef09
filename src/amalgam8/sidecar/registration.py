"""Keeps the instance in the registry: registers, renews, registers again, deregisters.

``Lease`` decides what to do next from what happened, without I/O; ``Registration`` does it. The instance
is registered as soon as its endpoint takes TCP connections (udp: at once), since calls would fail before.
A failure is retried for ever, and logged when it begins and when it ends. Refuses to check health.
"""

import asyncio
from typing import Literal

import msgspec

from amalgam8.clients import registry
from amalgam8.model.errors import A8Error, InstanceGone
from amalgam8.model.instance import Endpoint, address_of, instance_id
from amalgam8.runtime.latest import Latest
from amalgam8.runtime.logs import Log
from amalgam8.sidecar.endpoint import until_accepting

TTL = 60
"""Seconds of lease that are asked for."""

RENEWALS = 3
"""Heartbeats in the time of one lease."""

RETRIES = (0.25, 1.0, 5.0)
"""Seconds until a failed registration is tried again; the last is for all that follow."""

ATTEMPT_WITHIN = 5.0
DEREGISTER_WITHIN = 1.0

_log = Log("sidecar.registration")


class Lease:
    """When to register and when to renew. Times are of one monotonic clock, in seconds."""

    def __init__(self, now: float) -> None:
        self.act: Literal["register", "renew"] = "register"
        self.due = now
        self._ttl = TTL
        self._failures = 0
        self._epoch = ""

    @property
    def registered(self) -> bool:
        """Whether the registry knew the instance when it last answered."""
        return self.act == "renew"

    def granted(self, ttl: int, now: float) -> None:
        """Registered, for ``ttl`` seconds (0: for ever, which is renewed all the same)."""
        self._ttl = ttl or TTL
        self._failures = 0
        self._renew_later(now)

    def refused(self, now: float) -> None:
        """A registration failed."""
        self.act = "register"
        self.due = now + RETRIES[min(self._failures, len(RETRIES) - 1)]
        self._failures += 1

    def renewed(self, now: float) -> None:
        """A heartbeat was answered, or failed in a way that says nothing about the lease."""
        self._renew_later(now)

    def gone(self, now: float) -> None:
        """The registry does not know the instance: register at once."""
        self.act, self.due = "register", now

    def epoch(self, epoch: str, now: float) -> None:
        """The registry is there, with this epoch: another than before means that its memory is lost."""
        lost_memory = bool(self._epoch) and epoch != self._epoch
        self._epoch = epoch
        if lost_memory or not self.registered:
            self.gone(now)

    def _renew_later(self, now: float) -> None:
        self.act, self.due = "renew", now + self._ttl / RENEWALS


class Counts(msgspec.Struct):
    """What was tried, for the metrics."""

    registrations: int = 0
    heartbeats: int = 0
    failures: int = 0


class Registration:
    """One instance's registration. ``epochs`` tells of the registry's epochs where a stream is followed."""

    def __init__(
        self,
        client: registry.RegistryClient,
        service: str,
        tags: tuple[str, ...],
        endpoint: Endpoint,
        epochs: Latest[str],
    ) -> None:
        self.id = instance_id(service, endpoint)
        self.endpoint = endpoint
        self.counts = Counts()
        self._client = client
        self._body = registry.Registration(service, endpoint, TTL, tags=tags)
        self._epochs = epochs
        self._lease: Lease | None = None
        self._failing = ""

    @property
    def registered(self) -> bool:
        return self._lease is not None and self._lease.registered

    async def run(self) -> None:
        """Wait for the endpoint, then keep the instance registered; never returns."""
        address = address_of(Endpoint("tcp", self.endpoint.value))
        if address is not None and self.endpoint.type != "udp":
            await until_accepting(
                address.host, address.port, "nothing listens at the endpoint yet, so it is not registered"
            )
        loop = asyncio.get_running_loop()
        lease = self._lease = Lease(loop.time())
        version = self._epochs.version
        lease.epoch(self._epochs.value, loop.time())
        while True:
            try:
                async with asyncio.timeout_at(lease.due):
                    version = await self._epochs.newer(version)
                lease.epoch(self._epochs.value, loop.time())
                continue
            except TimeoutError:
                pass
            if lease.act == "register":
                await self._register(lease)
            else:
                await self._renew(lease)

    async def deregister(self) -> None:
        """Take the instance out of the registry, within DEREGISTER_WITHIN; a failure is logged only.

        To be called once ``run`` has ended, so that no registration follows.
        """
        if self._lease is None:
            return
        try:
            await self._client.deregister(self.id, timeout=DEREGISTER_WITHIN)
            _log.info("deregistered", id=self.id)
        except InstanceGone:
            pass
        except A8Error as error:
            _log.warning("not deregistered, the lease will end by itself", id=self.id, error=error)
        self._lease = None

    async def _register(self, lease: Lease) -> None:
        loop = asyncio.get_running_loop()
        self.counts.registrations += 1
        try:
            granted = await self._client.register(self._body, timeout=ATTEMPT_WITHIN)
        except A8Error as error:
            self._failed("not registered, trying again", error)
            lease.refused(loop.time())
            return
        self.id = granted.id
        self._failing = ""
        lease.granted(granted.ttl, loop.time())
        _log.info("registered", id=granted.id, service=self._body.service_name, ttl=granted.ttl)

    async def _renew(self, lease: Lease) -> None:
        loop = asyncio.get_running_loop()
        self.counts.heartbeats += 1
        try:
            await self._client.renew(self.id, timeout=ATTEMPT_WITHIN)
        except InstanceGone:
            _log.info("the registry does not know the instance any more, registering again", id=self.id)
            lease.gone(loop.time())
            return
        except A8Error as error:
            self._failed("not renewed, trying again", error)
            lease.renewed(loop.time())
            return
        self._failing = ""
        lease.renewed(loop.time())

    def _failed(self, event: str, error: A8Error) -> None:
        self.counts.failures += 1
        if self._failing != str(error):
            _log.warning(event, id=self.id, error=error)
        self._failing = str(error)
