"""The table of plain routes finds what Starlette's router would."""

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route, Router

from amalgam8.web.exchange import Answer, Asked
from amalgam8.web.plain import PlainRoute, PlainTable


async def handler(_asked: Asked) -> Answer:
    return Answer()


async def endpoint(_request: Request) -> Response:
    return Response()


TABLE = (
    ("GET", "/"),
    ("GET", "/things"),
    ("POST", "/things"),
    ("GET", "/things/{id}"),
    ("DELETE", "/things/{id}"),
    ("PUT", "/things/{id}/beat"),
    ("GET", "/other/{name}"),
)
ROUTES = [
    *(PlainRoute(path, handler, method=method) for method, path in TABLE[:3]),
    Route("/things/watch", endpoint, methods=["GET"]),
    *(PlainRoute(path, handler, method=method) for method, path in TABLE[3:]),
]
ALL_STARLETTE = [
    Route(route.path, endpoint, methods=[*(route.methods or ())])
    for route in ROUTES
    if isinstance(route, (Route, PlainRoute))
]


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "HEAD"])
@pytest.mark.parametrize(
    "path",
    [
        *("/", "//", "", "/things", "/things/", "/things/a", "/things/a/", "/things/a/b", "/things/watch"),
        *("/things/a/beat", "/things//beat", "/things/beat", "/things/a/b/beat", "/other/ä b", "/other/x\ny"),
        *("/nope", "/other", "/other/{name}"),
    ],
)
def test_it_finds_what_the_router_finds(method: str, path: str) -> None:
    scope = {"type": "http", "method": method, "path": path, "root_path": ""}
    matches = [(route, *route.matches(scope)) for route in Router(ALL_STARLETTE).routes]
    expected = next(((one, child) for one, match, child in matches if match is Match.FULL), None)
    found = PlainTable(ROUTES).find(method, path)
    if expected is None or getattr(expected[0], "path", "") == "/things/watch" or method == "HEAD":
        assert found is None
        return
    assert found is not None
    route, inside = found
    assert (route.path, route.method) == (getattr(expected[0], "path", ""), method)
    assert list(expected[1]["path_params"].values()) == ([inside] if inside else [])


def test_the_router_hears_of_a_path_whose_method_is_another() -> None:
    route = PlainRoute("/things/{id}", handler)
    assert route.matches({"path": "/things/a"})[0] is Match.PARTIAL
    assert route.matches({"path": "/things"})[0] is Match.NONE


def test_two_holes_are_refused() -> None:
    with pytest.raises(ValueError, match="more than one hole"):
        PlainRoute("/{a}/{b}", handler)
