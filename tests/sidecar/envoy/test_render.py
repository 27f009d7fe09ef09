"""Rendering: goldens, and what holds for every Routing."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_components_pb2, route_pb2
from google.protobuf import descriptor_pb2, descriptor_pool, json_format
from hypothesis import given
from hypothesis import strategies as st

from amalgam8.model.instance import Endpoint, Instance
from amalgam8.routing.plan import DestinationPlan, FaultEntry, PlanAbort
from amalgam8.routing.resolve import Routing, resolve
from amalgam8.sidecar.envoy.ads import State
from amalgam8.sidecar.envoy.listener import listeners
from amalgam8.sidecar.envoy.render import Renderer
from amalgam8.sidecar.envoy.rows import branch
from amalgam8.sidecar.envoy.ways import Branch
from tests.sidecar.envoy.support import Backend, simple

GOLDENS = Path(__file__).parent / "goldens"
CASES = sorted(path.name.removesuffix(".in.yaml") for path in GOLDENS.glob("*.in.yaml"))


class Case(msgspec.Struct):
    """``plan`` by destination; ``instances`` by service as ``address tag tag``."""

    plan: dict[str, DestinationPlan] = {}
    instances: dict[str, list[str]] = {}

    def routing(self) -> Routing:
        found = {}
        for service, lines in self.instances.items():
            made = []
            for number, line in enumerate(lines):
                address, *tags = line.split()
                kind, _, value = address.rpartition("://")
                endpoint = Endpoint(kind or "http", value)
                made.append(Instance(f"{service}-{number}", service, endpoint, tags=tuple(tags)))
            found[service] = tuple(made)
        return resolve(self.plan, found, 0.0)


def _learn_filter_chain() -> None:
    """Tells protobuf about the messages that ``chains`` writes by hand, so that a golden can be read."""
    package = "envoy.extensions.filters.http.filter_chain.v3"
    extension = "envoy/config/core/v3/extension.proto"
    file = descriptor_pb2.FileDescriptorProto(name="filter_chain.proto", package=package, syntax="proto3")
    file.dependency.append(extension)
    kinds = (
        ("filters", 3, "envoy.config.core.v3.TypedExtensionConfig"),
        (
            "default_filter_chain",
            1,
            f"{package}.FilterChain",
        ),
    )
    for name, (field, label, kind) in zip(("FilterChain", "FilterChainConfig"), kinds, strict=True):
        message = file.message_type.add(name=name)
        message.field.add(name=field, number=1, label=label, type="TYPE_MESSAGE", type_name=f".{kind}")
    descriptor_pool.Default().AddSerializedFile(file.SerializeToString())


_learn_filter_chain()


def rendered(renderer: Renderer, routing: Routing) -> tuple[State, dict[str, str]]:
    rendering = renderer.render(routing)
    parts = {name: part for name, part in rendering.parts.items() if part is not None}
    return renderer.state(parts, ()), rendering.problems


def fresh() -> Renderer:
    return Renderer(listeners("127.0.0.1", 6379))


def readable(state: State, problems: dict[str, str]) -> dict[str, Any]:
    """Without what is the same in every cluster: that is a golden of its own."""
    return {
        "clusters": sorted(state.clusters),
        "endpoints": {
            name: _json(endpoint_pb2.ClusterLoadAssignment, item.body)
            for name, item in sorted(state.endpoints.items())
        },
        "routes": _json(route_pb2.RouteConfiguration, state.routes["main"].body),
        "hold": state.hold,
        "problems": problems,
    }


def _json(kind: Any, body: bytes) -> Any:
    return json_format.MessageToDict(kind.FromString(body), preserving_proto_field_name=True)


def compare(name: str, found: Any, rewrite: bool) -> None:
    path = GOLDENS / f"{name}.envoy.json"
    text = msgspec.json.format(msgspec.json.encode(found, order="sorted"), indent=1) + b"\n"
    if rewrite:
        path.write_bytes(text)
    assert path.read_bytes() == text


@pytest.mark.parametrize("name", CASES)
def test_goldens(name: str, rewrite_goldens: bool) -> None:
    case = msgspec.convert(yaml.safe_load((GOLDENS / f"{name}.in.yaml").read_text()), Case)
    compare(name, readable(*rendered(fresh(), case.routing())), rewrite_goldens)


def test_the_golden_of_what_never_changes(rewrite_goldens: bool) -> None:
    state, _ = rendered(fresh(), {"svc": simple("svc")})
    compare(
        "static",
        {
            "cluster": _json(cluster_pb2.Cluster, state.clusters["svc"].body),
            "listeners": [_json(listener_pb2.Listener, item.body) for item in state.listeners.values()],
            "waiting": _json(route_pb2.RouteConfiguration, fresh().waiting().routes["main"].body),
        },
        rewrite_goldens,
    )


TAGS = st.lists(st.sampled_from(["v1", "v2", "x"]), max_size=2, unique=True)
CONDITION = st.dictionaries(st.sampled_from(["cookie", "x-a"]), st.sampled_from(["a", "b+"]), max_size=2).map(
    lambda headers: {"headers": sorted(headers.items())}
)
BACKEND = st.fixed_dictionaries(
    {"service": st.sampled_from("abc"), "tags": TAGS, "weight": st.integers(1, 5)}
)
DELAY = st.fixed_dictionaries({"seconds": st.just(2.0), "tags": TAGS})
ABORT = st.fixed_dictionaries({"status": st.just(500), "probability": st.just(0.5), "tags": TAGS})
ROUTE = st.fixed_dictionaries(
    {"rule": st.just("r"), "match": CONDITION, "backends": st.lists(BACKEND, min_size=1, max_size=3)}
)
FAULT = st.fixed_dictionaries(
    {
        "rule": st.just("f"),
        "match": CONDITION,
        "delays": st.lists(DELAY, max_size=2),
        "aborts": st.lists(ABORT, max_size=2),
    }
)
PART = st.fixed_dictionaries({"routes": st.lists(ROUTE, max_size=3), "faults": st.lists(FAULT, max_size=2)})
LINE = st.builds(lambda port, tags: " ".join([f"127.0.0.1:{port}", *tags]), st.integers(1, 9), TAGS)
INSTANCES = st.lists(LINE, max_size=4)
CASE = st.builds(
    lambda plan, instances: msgspec.convert({"plan": plan, "instances": instances}, Case),
    st.dictionaries(st.sampled_from("abd"), PART, max_size=3),
    st.dictionaries(st.sampled_from("abc"), INSTANCES, max_size=3),
)


@given(CASE)
def test_every_cluster_that_a_route_names_is_there_with_its_endpoints(case: Case) -> None:
    routing = case.routing()
    state, problems = rendered(fresh(), routing)
    assert problems == {}
    named = {route.route.cluster for routes in all_routes(state) for route in routes}
    assert named - {"a8.nowhere", "|second", "|second|h2"} == state.clusters.keys()
    assert state.endpoints.keys() >= state.clusters.keys()


@given(CASE)
def test_every_call_meets_one_route_of_a_list(case: Case) -> None:
    state, _ = rendered(fresh(), case.routing())
    for routes in all_routes(state):
        for grpc in {route.match.HasField("grpc") for route in routes}:
            *thrown, last = (route.match for route in routes if route.match.HasField("grpc") == grpc)
            dice = [match.runtime_fraction.default_value for match in thrown]
            reached = [each.numerator for each in dice]
            assert reached == sorted(set(reached)), dice
            assert not last.HasField("runtime_fraction")


def all_routes(state: State) -> list[list[Any]]:
    found: list[list[Any]] = []
    for name in ("main", "second"):
        configuration = route_pb2.RouteConfiguration.FromString(state.routes[name].body)
        for host in configuration.virtual_hosts:
            _routes_below(host.matcher, found)
    return found


def _routes_below(message: Any, found: list[list[Any]]) -> None:
    """Every Route or RouteList that is packed anywhere below."""
    if message.DESCRIPTOR.full_name == "google.protobuf.Any":
        if message.type_url.endswith(".Route"):
            found.append([route_components_pb2.Route.FromString(message.value)])
        elif message.type_url.endswith(".RouteList"):
            found.append(list(route_components_pb2.RouteList.FromString(message.value).routes))
        return
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if field.message_type.GetOptions().map_entry:
            values = list(value.values())
        else:
            values = list(value) if isinstance(value, Sequence) or hasattr(value, "add") else [value]
        for each in values:
            if hasattr(each, "ListFields"):
                _routes_below(each, found)


@given(CASE, st.randoms())
def test_order_of_input_does_not_matter_and_equal_input_gives_equal_bytes(case: Case, random: Any) -> None:
    routing = case.routing()
    names = list(routing)
    random.shuffle(names)
    one, _ = rendered(fresh(), routing)
    two, _ = rendered(fresh(), {name: routing[name] for name in names})
    assert one == two


@given(CASE, CASE)
def test_what_was_rendered_before_does_not_matter(before: Case, case: Case) -> None:
    renderer = fresh()
    rendered(renderer, before.routing())
    assert rendered(renderer, case.routing())[0] == rendered(fresh(), case.routing())[0]


class Counting:
    def __init__(self) -> None:
        self.names: list[str] = []

    def __call__(self, service: Any) -> Branch:
        self.names.append(service.name)
        return branch(service)


def test_what_cannot_be_put_into_a_message_is_a_problem_of_its_destination_only() -> None:
    fault = FaultEntry(rule="f", aborts=(PlanAbort(2**40),))
    rendering = fresh().render({"bad": simple("bad", faults=(fault,)), "good": simple("good")})
    assert rendering.problems.keys() == {"bad"}
    assert rendering.parts["bad"] is None
    assert rendering.parts["good"] is not None


async def test_only_what_changed_is_rendered_again() -> None:
    count = Counting()
    renderer = Renderer(listeners("127.0.0.1", 6379), count)
    one, two = Backend("one"), Backend("two")
    one.port, two.port = 1, 2
    routing = {name: simple(name, one.peer()) for name in "abc"}
    before, _ = rendered(renderer, routing)
    assert count.names == ["a", "b", "c"]
    after, _ = rendered(renderer, {**routing, "b": simple("b", one.peer(), two.peer())})
    assert count.names == ["a", "b", "c"]  # an instance more is no route more
    assert after.routes["main"] is before.routes["main"]
    assert [name for name in "abc" if after.endpoints[name] is not before.endpoints[name]] == ["b"]
    assert after.clusters == before.clusters
