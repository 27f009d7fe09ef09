"""The registry's REST API, typed. Wire format: ``docs/reference/registry-api.md``."""

from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from amalgam8.clients.http import Answer, Http, Refusal, segment
from amalgam8.clients.watch import Watch
from amalgam8.model.errors import BadAnswer, InstanceGone
from amalgam8.model.instance import Endpoint, Instance
from amalgam8.model.stream import InstanceDelta, InstanceSnapshot

T = TypeVar("T")


class Registration(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an instance says of itself. ``ttl`` in seconds; ``metadata`` any JSON value."""

    service_name: str
    endpoint: Endpoint
    ttl: int = 0
    status: str = "UP"
    tags: Sequence[str] = ()
    metadata: Any = None


class Granted(msgspec.Struct, frozen=True):
    """The registry's answer: the instance's id, and the ttl in seconds that it really has."""

    id: str
    ttl: int


class _Services(msgspec.Struct, frozen=True):
    services: tuple[str, ...]


class RegistryClient:
    """Every method may raise Unreachable, Refusal or BadAnswer."""

    def __init__(self, http: Http) -> None:
        self._http = http

    async def register(self, registration: Registration, *, timeout: float | None = None) -> Granted:
        return decode(
            await self._http.request("POST", "/api/v1/instances", registration, timeout=timeout), Granted
        )

    async def renew(self, identity: str, *, timeout: float | None = None) -> None:
        """Send a heartbeat.

        Raises:
            InstanceGone: the registry does not know the instance (any more): register again.
        """
        await self._for_instance("PUT", f"/api/v1/instances/{segment(identity)}/heartbeat", timeout)

    async def deregister(self, identity: str, *, timeout: float | None = None) -> None:
        """Remove the instance; raises InstanceGone if it is not there."""
        await self._for_instance("DELETE", f"/api/v1/instances/{segment(identity)}", timeout)

    async def instances(self, *, service: str = "", status: str = "ALL") -> tuple[Instance, ...]:
        query = [("status", status)] + ([("service_name", service)] if service else [])
        answer = await self._http.request("GET", "/api/v1/instances", query=query)
        return decode(answer, _Instances).instances

    async def services(self) -> tuple[str, ...]:
        return decode(await self._http.request("GET", "/api/v1/services"), _Services).services

    def watch(self) -> Watch[InstanceSnapshot, InstanceDelta]:
        """The stream of all instances, in every status."""
        return Watch(
            self._http, "/api/v1/instances/watch", (), InstanceSnapshot, InstanceDelta, "the registry"
        )

    async def _for_instance(self, method: str, path: str, timeout: float | None) -> None:
        try:
            await self._http.request(method, path, timeout=timeout)
        except Refusal as error:
            if error.status == 410:
                raise InstanceGone(error.reason) from None
            raise


class _Instances(msgspec.Struct, frozen=True):
    instances: tuple[Instance, ...]


def decode(answer: Answer, kind: type[T]) -> T:
    """The body as ``kind``.

    Raises:
        BadAnswer: it is something else.
    """
    try:
        return msgspec.json.decode(answer.body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadAnswer(f"an unexpected answer with status {answer.status}: {error}") from None
