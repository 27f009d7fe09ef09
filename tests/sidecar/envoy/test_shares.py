"""How calls are shared between versions: by dice, or by weights where those cannot choose."""

from collections import Counter

import pytest
from envoy.config.route.v3 import route_components_pb2
from envoy.type.v3 import percent_pb2

from amalgam8.model.rule import Affinity
from amalgam8.routing.condition import ALWAYS
from amalgam8.routing.plan import MirrorEntry, PlanMirror
from amalgam8.routing.resolve import SHARES, mirror_target
from amalgam8.sidecar.envoy.faults import percentage
from amalgam8.sidecar.envoy.shares import DICE, Share, shared, thrown
from tests.sidecar.envoy.support import Mesh, backends, service, simple, until

PERCENT = SHARES // 100


DenominatorType = percent_pb2.FractionalPercent.DenominatorType


def made(*weights: int, affinity: Affinity | None = None) -> list[route_components_pb2.Route]:
    shares = [Share(f"v{number}", weight, {}) for number, weight in enumerate(weights)]
    return shared(route_components_pb2.Route(name="svc"), shares, affinity)


def dice(routes: list[route_components_pb2.Route]) -> list[int]:
    return [route.match.runtime_fraction.default_value.numerator for route in routes]


def test_each_version_is_a_route_behind_one_throw_of_dice() -> None:
    routes = made(25 * PERCENT, 5 * PERCENT, 70 * PERCENT)
    assert [route.route.cluster for route in routes] == ["v0", "v1", "v2"]
    assert dice(routes) == [DICE * 25 // 100, DICE * 30 // 100, 0]
    assert not routes[-1].match.HasField("runtime_fraction")


def test_one_version_needs_no_dice() -> None:
    (route,) = made(SHARES)
    assert route.route.cluster == "v0"
    assert not route.match.HasField("runtime_fraction")


def test_shares_that_are_no_round_number_miss_by_a_millionth_at_most() -> None:
    assert dice(made(33_333_334, 33_333_333, 33_333_333)) == [333_333, 666_666, 0]


@pytest.mark.parametrize("weights", [(1, SHARES - 1), (SHARES // DICE - 1, SHARES - SHARES // DICE + 1)])
def test_a_share_that_no_dice_have_is_a_weight(weights: tuple[int, int]) -> None:
    (route,) = made(*weights)
    assert [each.weight.value for each in route.route.weighted_clusters.clusters] == list(weights)


@pytest.mark.parametrize(
    ("affinity", "policy"),
    [
        (Affinity(cookie="user"), {"cookie": {"name": "user"}}),
        (Affinity(header="X-User"), {"header": {"header_name": "x-user"}}),
        (Affinity(header="Host"), {"header": {"header_name": ":authority"}}),
    ],
)
def test_users_choose_by_their_hash(affinity: Affinity, policy: dict[str, object]) -> None:
    (route,) = made(PERCENT, SHARES - PERCENT, affinity=affinity)
    assert route.route.weighted_clusters.use_hash_policy.value
    assert list(route.route.hash_policy) == [route_components_pb2.RouteAction.HashPolicy(**policy)]
    (only,) = made(SHARES, affinity=affinity)
    assert only.route.cluster == "v0"


async def test_all_shares_of_a_split_are_met(mesh: Mesh) -> None:
    async with backends("one", "two", "three") as found:
        peers = {backend.name: (backend.peer(),) for backend in found}
        await mesh.follow(service("svc", [(ALWAYS, {"one": 1, "two": 1, "three": 2})], peers))
        names = Counter([(await mesh.ask("/svc/")).call.name for _ in range(400)])
    expected = {"one": 100, "two": 100, "three": 200}
    assert sum((names[name] - count) ** 2 / count for name, count in expected.items()) < 30  # p = 3e-7


@pytest.mark.parametrize(("percent", "weights"), [(100.0, False), (99.9, True), (0.01, True)])
def test_weights_choose_beside_copies_of_some_calls(percent: float, weights: bool) -> None:
    message = route_components_pb2.Route()
    message.route.request_mirror_policies.add(
        cluster="copies", runtime_fraction={"default_value": percentage(percent / 100)}
    )
    routes = shared(message, [Share("v0", SHARES // 2, {}), Share("v1", SHARES // 2, {})])
    assert bool(routes[0].route.weighted_clusters.clusters) == weights
    assert len(routes) == (1 if weights else 2)


@pytest.mark.parametrize(
    ("percents", "dice"),
    [
        ((25,), [(250_000, "MILLION")]),
        ((25, 25, 25), [(250_000, "MILLION"), (2500, "TEN_THOUSAND"), (25, "HUNDRED")]),
        ((100, 25), [(1_000_000, "MILLION"), (250_000, "MILLION")]),
        ((0.0001, 0.0001), [(1, "MILLION"), (1, "MILLION")]),
        ((25, 0.01, 0.5), [(250_000, "MILLION"), (1, "TEN_THOUSAND"), (5000, "MILLION")]),
    ],
)
def test_copies_look_at_digits_of_their_own(percents: list[float], dice: list[tuple[int, str]]) -> None:
    found = thrown([percent / 100 for percent in percents])
    assert [(each.numerator, DenominatorType.Name(each.denominator)) for each in found] == dice


async def test_copies_do_not_depend_on_each_other(mesh: Mesh) -> None:
    mirrors = (PlanMirror(("v2",), 50.0), PlanMirror(("v3",), 50.0))
    async with backends("one", "two", "three") as (one, two, three):
        copied = simple("svc", one.peer("v1"), mirrors=(MirrorEntry(rule="m", mirrors=mirrors),))
        for mirror, backend in zip(mirrors, (two, three), strict=True):
            copied.peers[mirror_target("svc", mirror)] = (backend.peer(*mirror.tags),)
        await mesh.follow(copied)
        for number in range(300):
            await mesh.ask("/svc/", ("x-heard", str(number)))
        await until(lambda: len(two.heard) > 100 < len(three.heard))
        assert len(set(two.heard) & set(three.heard)) > 20
        assert len(set(two.heard) - set(three.heard)) > 20


async def test_what_is_copied_does_not_depend_on_the_version(mesh: Mesh) -> None:
    mirror = MirrorEntry(rule="m", mirrors=(PlanMirror(("v3",), 50.0),))
    async with backends("one", "two", "copies") as (one, two, copies):
        peers = {"v1": (one.peer("v1"),), "v2": (two.peer("v2"),)}
        split = service("svc", [(ALWAYS, {"v1": 1, "v2": 1})], peers, mirrors=(mirror,))
        split.peers[mirror_target("svc", mirror.mirrors[0])] = (copies.peer("v3"),)
        await mesh.follow(split)
        for number in range(300):
            await mesh.ask("/svc/", ("x-heard", str(number)))
        await until(lambda: len(copies.heard) > 100)  # 150 are expected
        for backend in (one, two):
            assert len(set(backend.heard) & set(copies.heard)) > 20
