"""The registry's client against a stand-in that says what each test needs."""

import contextlib
from collections.abc import AsyncIterator

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from amalgam8.clients.http import Http, Refusal
from amalgam8.clients.registry import Registration, RegistryClient
from amalgam8.model.errors import BadAnswer, InstanceGone
from amalgam8.model.instance import Endpoint, instance_id
from amalgam8.web.app import Api, json_response
from amalgam8.web.errors import registry_style
from tests.wire import RegistryStandIn, instance, served

ENDPOINT = Endpoint("http", "127.0.0.1:80")


@contextlib.asynccontextmanager
async def client(app: Api) -> AsyncIterator[RegistryClient]:
    async with served(app) as port:
        http = Http(f"http://127.0.0.1:{port}")
        try:
            yield RegistryClient(http)
        finally:
            await http.close()


async def test_the_life_of_a_registration() -> None:
    registry = RegistryStandIn(ttl=30)
    async with client(registry.app) as one:
        granted = await one.register(Registration("reviews", ENDPOINT, 60, tags=("v1",)))
        assert (granted.id, granted.ttl) == (instance_id("reviews", ENDPOINT), 30)
        assert list(registry.live[granted.id].tags) == ["v1"]
        await one.renew(granted.id)
        await one.deregister(granted.id)
        with pytest.raises(InstanceGone):
            await one.renew(granted.id)
        with pytest.raises(InstanceGone):
            await one.deregister(granted.id)


async def test_other_refusals_stay_what_they_are() -> None:
    registry = RegistryStandIn()
    registry.refuse = 503
    async with client(registry.app) as one:
        with pytest.raises(Refusal, match="not now") as refused:
            await one.register(Registration("reviews", ENDPOINT))
        assert refused.value.status == 503


async def test_lookups() -> None:
    asked: list[list[tuple[str, str]]] = []

    async def instances(request: Request) -> Response:
        asked.append(request.query_params.multi_items())
        return json_response({"instances": [instance("reviews", 1)]})

    async def services(_request: Request) -> Response:
        return json_response({"services": ["ratings", "reviews"]})

    routes = [Route("/api/v1/instances", instances), Route("/api/v1/services", services)]
    async with client(Api(routes, style=registry_style, body_limit=0)) as one:
        assert await one.instances() == (instance("reviews", 1),)
        assert await one.instances(service="a b", status="UP") == (instance("reviews", 1),)
        assert asked == [[("status", "ALL")], [("status", "UP"), ("service_name", "a b")]]
        assert await one.services() == ("ratings", "reviews")


@pytest.mark.parametrize("body", [b"", b"{}", b'{"instances":{}}', b"\xff"])
async def test_an_answer_of_another_shape_is_a_bad_one(body: bytes) -> None:
    async def instances(_request: Request) -> Response:
        return Response(body)

    async with client(
        Api([Route("/api/v1/instances", instances)], style=registry_style, body_limit=0)
    ) as one:
        with pytest.raises(BadAnswer, match="unexpected answer with status 200"):
            await one.instances()
