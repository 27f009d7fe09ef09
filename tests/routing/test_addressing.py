"""Addressing: by Host, by an outer path, by the first segment; and nothing reaches another service."""

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amalgam8.routing.addressing import address, addressed, host_name, named_hosts
from amalgam8.routing.plan import DestinationPlan, Outer, PlanBackend, RouteEntry
from amalgam8.routing.resolve import Route, ServiceRouting, resolve


def outer(rule: str, priority: int = 0, **members: str) -> DestinationPlan:
    entry = RouteEntry(rule=rule, backends=(PlanBackend("x"),), outer=Outer((-priority, "", rule), **members))
    return DestinationPlan(routes=(entry,))


ROUTING = resolve(
    {
        "reviews": outer("r", path="/shop"),
        "ratings": outer("p", 1, prefix="/api/", rewrite="/"),
        "a b/ü": DestinationPlan(),
        "a%20b": DestinationPlan(),
        "shop": DestinationPlan(),
    },
    {},
    0.0,
)


def found(path: str, host: str = "localhost:6379", own: str = "") -> tuple[str, str, str]:
    answer = addressed(ROUTING, path, host, own, lambda _: True)
    if isinstance(answer, str):
        return ("", "", answer)
    service, route, seen = answer
    return (service.name, route.rule if route else "", seen)


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("/reviews/1?q=/x", ("reviews", "", "/1?q=/x")),
        ("/reviews", ("reviews", "", "/")),
        ("/reviews?q", ("reviews", "", "/?q")),
        ("/a%20b%2F%C3%BC/x", ("a b/ü", "", "/x")),
        ("/a%20b%2f%c3%bc/x", ("", "", "a%20b%2f%c3%bc")),
        ("/a%2520b/x", ("a%20b", "", "/x")),
        ("/a%20b/x", ("", "", "a%20b")),
        ("/%72eviews/", ("", "", "%72eviews")),
        ("/reviews%2F1", ("", "", "reviews%2F1")),
        ("/reviews/../ratings/", ("reviews", "", "/../ratings/")),
        ("/reviews/%2e%2e/ratings", ("reviews", "", "/%2e%2e/ratings")),
        ("/reviews;x=1/", ("", "", "reviews;x=1")),
        ("//reviews/", ("", "", "")),
        ("/", ("", "", "")),
        ("/shop", ("reviews", "r", "/shop")),
        ("/shop?q=1", ("reviews", "r", "/shop?q=1")),
        ("/shop/", ("shop", "", "/")),
        ("/api/x?q", ("ratings", "p", "/x?q")),
        ("/api", ("", "", "api")),
    ],
)
def test_paths(path: str, wanted: tuple[str, str, str]) -> None:
    assert found(path) == wanted


@pytest.mark.parametrize(
    ("host", "own", "wanted"),
    [
        ("reviews", "", ("reviews", "", "/shop/x")),
        ("reviews:80", "", ("reviews", "", "/shop/x")),
        ("reviews", "web", ("reviews", "", "/shop/x")),
        ("reviews", "reviews", ("shop", "", "/x")),
        ("Reviews", "", ("reviews", "", "/shop/x")),
        ("reviews.local", "", ("shop", "", "/x")),
        ("reviews:", "", ("shop", "", "/x")),
        ("", "", ("shop", "", "/x")),
    ],
)
def test_a_host_that_is_a_known_service(host: str, own: str, wanted: tuple[str, str, str]) -> None:
    assert found("/shop/x", host, own) == wanted


def test_a_host_comes_before_an_outer_path() -> None:
    assert found("/shop", "ratings") == ("ratings", "", "/shop")


def test_an_outer_path_whose_condition_fails_is_passed_over() -> None:
    answer = addressed(ROUTING, "/shop", "", "", lambda _: False)
    assert not isinstance(answer, str)
    assert (answer[0].name, answer[1]) == ("shop", None)


@pytest.mark.parametrize(("host", "name"), [("a", "a"), ("a:80", "a"), ("[::1]:80", "[::1]"), ("a:b", "a:b")])
def test_the_port_is_cut_off(host: str, name: str) -> None:
    assert host_name(host) == name


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8))
def test_an_address_is_one_segment_and_names_one_service(name: str) -> None:
    segment = address(name)
    assert unquote(segment) == name
    assert not set(segment) & set("/?# \x00")
    assert segment.isascii()
    service = ServiceRouting(name, (Route(()),))
    answer = addressed({name: service}, f"/{segment}/x", "", "", lambda _: True)
    assert answer == (service, None, "/x")


def test_a_host_has_no_case_and_a_path_has() -> None:
    assert found("/x", "REVIEWS:6379") == ("reviews", "", "/x")
    assert found("/Reviews/x") == ("", "", "Reviews")
    assert found("/ratings/x", "Reviews", own="reviews") == ("ratings", "", "/x")


def test_of_names_that_differ_in_case_one_is_meant_by_host() -> None:
    assert named_hosts(["B", "b", "C", "cÜ", "A", "a"], "A") == {"b": "b", "c": "C", "cÜ": "cÜ"}
    assert named_hosts(["bA", "Ba"], "") == {"ba": "Ba"}
