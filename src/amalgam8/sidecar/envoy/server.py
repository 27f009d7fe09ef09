"""The gRPC shell around the stream's state machine: one Envoy, one stream, one unix socket (mode 0600).

A newer stream ends the older one. Refuses to decide anything.
Wire format: ``envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources``.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Protocol

import grpc
import grpc.aio
from envoy.service.discovery.v3 import discovery_pb2

from amalgam8.sidecar.envoy.ads import Request, Response

_SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
_METHOD = "DeltaAggregatedResources"
_QUEUE = 64
"""At most one response of each of five kinds is on its way, so this never fills."""

_OPTIONS = (("grpc.max_receive_message_length", 64 * 1024 * 1024), ("grpc.so_reuseport", 0))


class Stream:
    """Where responses to the Envoy on this stream go."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Response] = asyncio.Queue(_QUEUE)

    def send(self, response: Response) -> None:
        self.queue.put_nowait(response)


class Driver(Protocol):
    """Whoever owns the state machine."""

    def opened(self, stream: Stream) -> None: ...

    def received(self, stream: Stream, request: Request) -> None: ...

    def closed(self, stream: Stream) -> None: ...


@contextlib.asynccontextmanager
async def serving(socket: Path, driver: Driver) -> AsyncIterator[None]:
    """Serve the stream at ``socket`` until left. The folder around it must be private."""
    logging.getLogger("grpc").setLevel(logging.WARNING)  # its debug records are about itself
    server = grpc.aio.server(options=_OPTIONS)
    handler = grpc.stream_stream_rpc_method_handler(
        _Handler(driver).stream,
        request_deserializer=discovery_pb2.DeltaDiscoveryRequest.FromString,
        response_serializer=discovery_pb2.DeltaDiscoveryResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, {_METHOD: handler}),))
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    os.chmod(socket, 0o600)  # noqa: PTH101 - of a local file, and done before anybody can wait for it
    try:
        yield
    finally:
        await server.stop(grace=None)


class _Handler:
    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._current: asyncio.Task[Any] | None = None

    async def stream(self, _: Any, context: Any) -> None:
        if self._current is not None:
            self._current.cancel()
        self._current = task = asyncio.current_task()
        stream = Stream()
        self._driver.opened(stream)
        try:
            async with asyncio.TaskGroup() as group:
                writer = group.create_task(self._write(stream, context))
                while (message := await context.read()) is not grpc.aio.EOF:
                    self._driver.received(stream, read(message))
                writer.cancel()
        finally:
            self._driver.closed(stream)
            if self._current is task:
                self._current = None

    @staticmethod
    async def _write(stream: Stream, context: Any) -> None:
        while True:
            await context.write(written(await stream.queue.get()))


def read(message: Any) -> Request:
    """A DeltaDiscoveryRequest as the state machine takes it."""
    return Request(
        kind=message.type_url,
        nonce=message.response_nonce,
        error=message.error_detail.message if message.HasField("error_detail") else None,
        subscribe=tuple(message.resource_names_subscribe),
        unsubscribe=tuple(message.resource_names_unsubscribe),
        versions=dict(message.initial_resource_versions),
    )


def written(response: Response) -> Any:
    """A Response as a DeltaDiscoveryResponse."""
    message = discovery_pb2.DeltaDiscoveryResponse(
        type_url=response.kind, nonce=response.nonce, removed_resources=response.removed
    )
    for item in response.resources:
        entry = message.resources.add(name=item.name, version=item.version)
        entry.resource.type_url = response.kind
        entry.resource.value = item.body
    return message
