"""The gRPC shell, spoken to by a real gRPC client."""

import asyncio
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from envoy.service.discovery.v3 import discovery_pb2

from amalgam8.sidecar.envoy.ads import Request, Response
from amalgam8.sidecar.envoy.messages import CLUSTER, resource
from amalgam8.sidecar.envoy.server import Stream, serving
from tests.sidecar.envoy.support import LIMIT, until

METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"


class Recorder:
    """Writes down what it hears."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Stream, Request | None]] = []

    def opened(self, stream: Stream) -> None:
        self.events.append(("opened", stream, None))

    def received(self, stream: Stream, request: Request) -> None:
        self.events.append(("received", stream, request))

    def closed(self, stream: Stream) -> None:
        self.events.append(("closed", stream, None))

    @property
    def words(self) -> list[str]:
        return [word for word, _, _ in self.events]


def call(channel: Any) -> Any:
    return channel.stream_stream(
        METHOD,
        request_serializer=discovery_pb2.DeltaDiscoveryRequest.SerializeToString,
        response_deserializer=discovery_pb2.DeltaDiscoveryResponse.FromString,
    )()


async def test_both_ways(tmp_path: Path) -> None:
    driver = Recorder()
    async with serving(tmp_path / "s", driver), grpc.aio.insecure_channel(f"unix:{tmp_path}/s") as channel:
        stream = call(channel)
        message = discovery_pb2.DeltaDiscoveryRequest(
            type_url=CLUSTER,
            response_nonce="7",
            resource_names_subscribe=["a"],
            resource_names_unsubscribe=["b"],
            initial_resource_versions={"c": "1"},
        )
        message.error_detail.message = "no"
        await stream.write(message)
        await until(lambda: "received" in driver.words)
        assert driver.events[1][2] == Request(CLUSTER, "7", "no", ("a",), ("b",), {"c": "1"})
        item = resource("x", b"body")
        driver.events[0][1].send(Response(CLUSTER, "8", (item,), ("gone",)))
        async with asyncio.timeout(LIMIT):
            answer = await stream.read()
        assert (answer.type_url, answer.nonce, list(answer.removed_resources)) == (CLUSTER, "8", ["gone"])
        (found,) = answer.resources
        assert (found.name, found.version, found.resource.type_url) == ("x", item.version, CLUSTER)
        assert found.resource.value == b"body"
        await stream.done_writing()
        await until(lambda: driver.words[-1] == "closed")


async def test_a_newer_stream_ends_the_older(tmp_path: Path) -> None:
    driver = Recorder()
    async with serving(tmp_path / "s", driver), grpc.aio.insecure_channel(f"unix:{tmp_path}/s") as channel:
        first = call(channel)
        await first.write(discovery_pb2.DeltaDiscoveryRequest(type_url=CLUSTER))
        await until(lambda: "received" in driver.words)
        second = call(channel)
        await second.write(discovery_pb2.DeltaDiscoveryRequest(type_url=CLUSTER))
        await until(lambda: driver.words.count("received") == 2 and "closed" in driver.words)
        assert driver.events[driver.words.index("closed")][1] is driver.events[0][1]
        second.cancel()
        await until(lambda: driver.words.count("closed") == 2)


async def test_the_socket_is_private(tmp_path: Path) -> None:
    async with serving(tmp_path / "s", Recorder()):
        assert (tmp_path / "s").stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "s").exists()
