"""The stream's state machine: scripts of events without I/O, and a model of Envoy that checks each step."""

from collections import deque
from collections.abc import Iterable

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from amalgam8.sidecar.envoy.ads import KINDS, Ads, Request, Response, State
from amalgam8.sidecar.envoy.messages import CLUSTER, ENDPOINTS, EXTENSION, LISTENER, ROUTES, Resource

SHORT = {CLUSTER: "C", ENDPOINTS: "E", EXTENSION: "X", ROUTES: "R", LISTENER: "L"}
LONG = {short: kind for kind, short in SHORT.items()}


def state(clusters: str, routes: str, endpoints: str = "", hold: float = 0.0) -> State:
    """``clusters`` as ``a1 b1``: name and version. Endpoints have version 1 but for those named."""
    found = {text[0]: Resource(text[0], text) for text in clusters.split()}
    ends = {name: Resource(name, f"{name}1") for name in found}
    ends |= {text[0]: Resource(text[0], text) for text in endpoints.split()}
    return State(
        clusters=found,
        endpoints=ends,
        routes={"main": Resource("main", routes)},
        listeners={"l": Resource("l", "l1")},
        hold=hold,
    )


class Playbook:
    """Says what Envoy says, and writes what it gets as ``C a1 b1 -c``."""

    def __init__(self, linger: float = 60.0) -> None:
        self.ads = Ads(linger)
        self.now = 0.0
        self.flights: dict[str, Response] = {}
        self.ads.reset()

    def want(self, wanted: State) -> list[str]:
        self.ads.want(wanted)
        return self.step()

    def step(self) -> list[str]:
        out = []
        for response in self.ads.step(self.now):
            assert response.kind not in self.flights, "one at a time"
            self.flights[response.kind] = response
            words = [SHORT[response.kind], *(item.version for item in response.resources)]
            out.append(" ".join([*words, *(f"-{name}" for name in response.removed)]))
        return out

    def ask(self, kind: str, *names: str, versions: dict[str, str] | None = None) -> list[str]:
        self.ads.received(Request(LONG[kind], subscribe=names, versions=versions or {}), self.now)
        return self.step()

    def drop(self, kind: str, *names: str) -> list[str]:
        self.ads.received(Request(LONG[kind], unsubscribe=names), self.now)
        return self.step()

    def ack(self, kind: str, *names: str) -> list[str]:
        """Accept; ``names`` are asked for in the same request."""
        flight = self.flights.pop(LONG[kind])
        self.ads.received(Request(LONG[kind], flight.nonce, subscribe=names), self.now)
        return self.step()

    def nack(self, kind: str, words: str) -> list[str]:
        flight = self.flights.pop(LONG[kind])
        self.ads.received(Request(LONG[kind], flight.nonce, words), self.now)
        return self.step()

    def started(self, wanted: State) -> "Playbook":
        """Envoy has all of this."""
        self.want(wanted)
        self.ask("C")
        self.ack("C")
        self.ask("E", *wanted.clusters)
        self.ack("E")
        self.ask("L")
        self.ack("L")
        self.ask("R", "main")
        self.ack("R")
        assert self.ads.followed is wanted
        return self


def followed(play: Playbook, wanted: State) -> bool:
    return play.ads.followed is wanted


def test_nothing_is_sent_before_envoy_asks() -> None:
    play = Playbook()
    assert play.want(state("a1", "r1")) == []
    assert play.ask("C") == ["C a1"]


def test_the_start() -> None:
    play = Playbook()
    wanted = state("a1 b1", "r1")
    play.want(wanted)
    assert play.ask("C") == ["C a1 b1"]
    assert play.ack("C") == []
    assert play.ask("E", "a", "b") == ["E a1 b1"]
    assert play.ask("L") == ["L l1"]
    assert play.ack("L") == []
    assert play.ask("R", "main") == []
    assert play.ack("E") == ["R r1"]
    assert not followed(play, wanted)
    assert play.ack("R") == []
    assert followed(play, wanted)


def test_empty_lists_are_answered_once_so_that_envoy_goes_on() -> None:
    play = Playbook()
    play.want(State())
    assert play.ask("C") == ["C"]
    assert play.ack("C") == []
    assert play.ask("L") == ["L"]
    assert play.ack("L") == []


def test_clusters_then_endpoints_then_routes_then_removal() -> None:
    play = Playbook().started(state("a1", "r1"))
    wanted = state("b1", "r2")
    assert play.want(wanted) == ["C b1"]
    assert play.ask("E", "b") == ["E b1"]
    assert play.ack("C") == []
    assert play.ack("E") == ["R r2"]
    assert play.ads.followed is not wanted
    assert play.ack("R") == []
    assert play.ads.followed is wanted
    assert play.ads.wake_at == 60.0
    play.now = 59.9
    assert play.step() == []
    play.now = 60.0
    assert play.step() == ["C -a"]
    assert play.ack("C") == []
    assert play.drop("E", "a") == []
    assert play.ads.clusters == {"b"}
    play.now = 1000.0
    assert play.step() == []


def connecting(clusters: str, routes: str, extension: str) -> State:
    """A state with the filter of a TCP proxy."""
    found = {"tcp 1": Resource("tcp 1", extension)}
    return msgspec.structs.replace(state(clusters, routes), connections=found)


def test_filters_of_tcp_proxies_come_after_their_clusters_and_before_the_removal_of_old_ones() -> None:
    play = Playbook()
    first = connecting("a1", "r1", "x1")
    play.want(first)
    play.ask("C")
    play.ack("C")
    assert play.ask("X", "tcp 1") == []
    play.ask("E", "a")
    play.ask("L")
    play.ack("L")
    assert play.ack("E") == ["X x1"]
    assert play.ask("R", "main") == []
    assert play.ack("X") == ["R r1"]
    assert not followed(play, first)
    assert play.ack("R") == []
    assert followed(play, first)

    wanted = connecting("b1", "r1", "x2")
    assert play.want(wanted) == ["C b1"]
    play.ask("E", "b")
    assert play.ack("C") == []
    assert play.ack("E") == ["X x2"]
    play.now = 1000.0
    assert play.step() == []  # the old filter may still lead to the old cluster
    assert play.ack("X") == []
    assert followed(play, wanted)
    play.now = 1060.0
    assert play.step() == ["C -a"]


def test_a_filter_that_is_refused_keeps_its_old_cluster() -> None:
    play = Playbook()
    play.want(connecting("a1", "r1", "x1"))
    play.ask("C")
    play.ack("C")
    play.ask("E", "a")
    play.ack("E")
    play.ask("X", "tcp 1")
    play.ack("X")
    wanted = connecting("b1", "r1", "bad")
    play.want(wanted)
    play.ask("E", "b")
    play.ack("C")
    assert play.ack("E") == ["X bad"]
    assert not followed(play, wanted)
    assert play.nack("X", "no") == []
    play.ask("L")
    play.ack("L")
    play.ask("R", "main")
    play.ack("R")
    assert play.ads.refused(LONG["X"])["tcp 1"].words == "no"
    assert followed(play, wanted)  # but for that filter
    play.now = 1000.0
    assert play.step() == []


def test_weights_and_patterns_are_routes_only() -> None:
    play = Playbook().started(state("a1", "r1"))
    assert play.want(state("a1", "r2")) == ["R r2"]


def test_filters_go_before_the_routes_that_enable_them() -> None:
    play = Playbook().started(state("a1", "r1"))
    play.ask("X", "f")
    wanted = msgspec.structs.replace(state("a1", "r2"), extensions={"f": Resource("f", "f1")})
    assert play.want(wanted) == ["X f1"]
    assert not followed(play, wanted)
    assert play.ack("X") == ["R r2"]
    play.ack("R")
    assert followed(play, wanted)
    assert play.want(msgspec.structs.replace(wanted, routes={"main": Resource("main", "r3")})) == ["R r3"]


def test_a_refused_filter_keeps_the_routes_as_they_are() -> None:
    play = Playbook().started(state("a1", "r1"))
    play.ask("X", "f")
    wanted = msgspec.structs.replace(state("a1", "r2"), extensions={"f": Resource("f", "f1")})
    assert play.want(wanted) == ["X f1"]
    assert play.nack("X", "no") == []
    assert play.ads.refused(LONG["X"])["f"].words == "no"


def test_a_refused_filter_of_a_tcp_proxy_holds_up_neither_routes_nor_their_filters() -> None:
    play = Playbook().started(state("a1", "r1"))
    play.ask("X", "f", "tcp 1")
    wanted = msgspec.structs.replace(
        state("b1", "r2"),
        extensions={"f": Resource("f", "f1")},
        connections={"tcp 1": Resource("tcp 1", "bad")},
    )
    assert play.want(wanted) == ["C b1"]
    play.ask("E", "b")
    assert play.ack("C") == []
    assert play.ack("E") == ["X f1 bad"]  # both after the clusters that one of them leads to
    assert play.nack("X", "no") == ["X f1"]
    assert play.ack("X") == ["X bad"]
    assert play.nack("X", "no") == ["R r2"]
    assert play.ack("R") == []
    assert play.ads.refused(LONG["X"]).keys() == {"tcp 1"}
    assert followed(play, wanted)
    play.now = 1000.0
    assert play.step() == []  # the old filter may still lead to the old cluster


def test_a_good_filter_of_a_tcp_proxy_goes_on_where_one_for_routes_is_refused() -> None:
    play = Playbook().started(state("a1", "r1"))
    play.ask("X", "f", "tcp 1")
    wanted = msgspec.structs.replace(
        state("a1", "r2"),
        extensions={"f": Resource("f", "bad")},
        connections={"tcp 1": Resource("tcp 1", "x1")},
    )
    assert play.want(wanted) == ["X bad x1"]
    assert play.nack("X", "no") == ["X bad"]
    assert play.nack("X", "no") == ["X x1"]
    assert play.ack("X") == []  # no routes
    assert play.ads.refused(LONG["X"]).keys() == {"f"}
    assert not followed(play, wanted)


def test_endpoints_go_at_once_and_alone() -> None:
    play = Playbook().started(state("a1 b1", "r1"))
    assert play.want(state("a1 b1", "r1", "b2")) == ["E b2"]
    assert play.want(state("a1 b1", "r1", "b3 a2")) == []
    assert play.ack("E") == ["E a2 b3"]


def test_equal_states_are_not_sent_and_followed_at_once() -> None:
    play = Playbook().started(state("a1", "r1"))
    again = state("a1", "r1")
    assert play.want(again) == []
    assert play.ads.followed is again


def test_a_newer_state_in_mid_sequence_waits_for_what_its_routes_need() -> None:
    play = Playbook().started(state("a1", "r1"))
    assert play.want(state("b1", "r2")) == ["C b1"]
    assert play.want(state("c1", "r3")) == []
    assert play.ack("C") == ["C c1"]
    assert play.ask("E", "b") == []
    assert play.ack("C") == []
    assert play.ask("E", "c") == ["E c1"]
    assert play.ack("E") == ["R r3"]
    assert play.ack("R") == []
    assert play.ads.clusters == {"a", "b", "c"}


def test_clusters_of_routes_on_their_way_stay() -> None:
    play = Playbook(linger=0).started(state("a1", "r1"))
    assert play.want(state("a1", "r2")) == ["R r2"]
    assert play.want(state("b1", "r3")) == ["C b1"]
    assert play.ack("C") == []
    assert play.ask("E", "b") == ["E b1"]
    assert play.ack("E") == []  # r2 is still unconfirmed, and nothing goes
    assert play.ack("R") == ["R r3"]
    assert play.ack("R") == ["C -a"]


def test_the_longest_delay_is_added_to_the_time_that_clusters_stay() -> None:
    play = Playbook().started(state("a1", "r1", hold=7.0))
    play.now = 100.0
    play.want(state("", "r2"))
    play.ack("R")
    assert play.ads.wake_at == 167.0
    play.want(state("", "r3", hold=500.0))
    play.ack("R")
    assert play.ads.wake_at == 167.0


def test_a_delay_that_ended_before_the_version_did_counts_too() -> None:
    play = Playbook().started(state("a1", "r1", hold=600.0))
    play.want(state("a1", "r2"))
    play.ack("R")
    play.now = 10.0
    play.want(state("", "r3"))
    play.ack("R")
    assert play.ads.wake_at == 660.0


def test_a_cluster_that_is_wanted_again_while_it_lingers_was_never_gone() -> None:
    play = Playbook().started(state("a1", "r1"))
    play.want(state("", "r2"))
    play.ack("R")
    play.now = 30.0
    assert play.want(state("a1", "r1")) == ["R r1"]
    play.ack("R")
    play.now = 100.0
    assert play.step() == []
    assert play.want(state("", "r2")) == ["R r2"]
    play.ack("R")
    assert play.ads.wake_at == 160.0


def test_a_changed_cluster_gets_its_endpoints_again_before_routes_go_on() -> None:
    play = Playbook().started(state("a1", "r1"))
    assert play.want(state("a2", "r2")) == ["C a2"]
    assert play.ack("C") == ["E a1"]
    assert play.ack("E") == ["R r2"]


def test_endpoints_that_are_asked_for_again_are_sent_again() -> None:
    play = Playbook().started(state("a1", "r1"))
    assert play.ask("E", "a") == ["E a1"]


def test_one_bad_cluster_is_found_and_the_others_go_on() -> None:
    play = Playbook().started(state("a1", "r1"))
    assert play.want(state("a1 b1 c1 d1 e1", "r2")) == ["C b1 c1 d1 e1"]
    assert play.nack("C", "no") == ["C b1 c1"]
    assert play.ack("C") == ["C d1 e1"]
    assert play.nack("C", "d is bad") == ["C d1"]
    assert play.nack("C", "d is bad") == ["C e1"]
    assert play.ack("C") == []
    assert play.ads.refused(CLUSTER)["d"].words == "d is bad"
    play.now = 1000.0
    assert play.step() == []  # it is not tried again,
    assert play.want(state("a1 b1 c1 d2 e1", "r2")) == ["C d2"]  # but a changed one is


def test_refused_routes_leave_the_old_ones_and_are_not_tried_again() -> None:
    play = Playbook().started(state("a1", "r1"))
    wanted = state("a1", "r2")
    assert play.want(wanted) == ["R r2"]
    assert play.nack("R", "bad route") == []
    assert play.step() == []
    assert play.ads.refused(ROUTES)["main"].words == "bad route"
    assert play.ads.followed is not wanted
    assert play.want(state("a1", "r3")) == ["R r3"]


def test_no_cluster_goes_while_its_routes_are_refused() -> None:
    play = Playbook(linger=0).started(state("a1", "r1"))
    play.want(state("b1", "r2"))
    play.ack("C")
    play.ask("E", "b")
    play.ack("E")
    assert play.nack("R", "bad route") == []
    assert play.ads.clusters == {"a", "b"}


def test_a_new_stream_of_the_same_envoy_gets_only_what_is_new() -> None:
    play = Playbook().started(state("a1 b1", "r1"))
    play.ads.reset()
    play.want(state("a1 b1", "r1", "b2"))
    assert play.ask("C", versions={"a": "a1", "b": "b1", "z": "z1"}) == ["C"]
    assert play.ack("C") == []
    assert play.ask("E", "a", "b", "z", versions={"a": "a1", "b": "b1"}) == ["E b2"]
    play.ask("L", versions={"l": "l1"})
    assert play.ask("R", "main", versions={"main": "r1"}) == []
    play.ack("E")
    play.ack("L")
    assert play.ads.followed is play.ads._wanted
    assert play.ads.wake_at == 60.0  # z is nobody's, and may still be in use


def test_a_new_envoy_gets_everything() -> None:
    wanted = state("a1", "r1")
    play = Playbook().started(wanted)
    play.ads.reset()
    assert play.step() == []
    assert play.ask("C") == ["C a1"]
    assert play.ack("C") == []
    assert play.ask("E", "a") == ["E a1"]


def test_answers_to_an_older_stream_and_unknown_kinds_are_ignored() -> None:
    play = Playbook().started(state("a1", "r1"))
    play.want(state("b1", "r2"))
    play.ads.received(Request(CLUSTER, nonce="999"), 0)
    play.ads.received(Request("type.googleapis.com/other", subscribe=("x",)), 0)
    assert play.step() == []
    assert play.ads.followed is not play.ads._wanted


class Model:
    """An Envoy: takes responses in any order of kinds, and checks that its routes always lead somewhere."""

    def __init__(self, ads: Ads, uses: dict[str, frozenset[str]]) -> None:
        self.ads = ads
        self.uses = uses
        self.clusters: dict[str, str] = {}
        self.endpoints: dict[str, str] = {}
        self.warm: set[str] = set()
        self.routes = ""
        self.inbox: dict[str, deque[Response]] = {kind: deque() for kind in KINDS}
        self.sent = 0

    def say(self, request: Request, now: float) -> None:
        self.ads.received(request, now)
        self.step(now)

    def step(self, now: float) -> None:
        for response in self.ads.step(now):
            self.sent += 1
            self.inbox[response.kind].append(response)

    def start(self) -> None:
        for kind in (CLUSTER, LISTENER):
            self.say(Request(kind), 0)
        self.say(Request(ROUTES, subscribe=("main",)), 0)

    def take(self, kind: str, now: float) -> None:
        if not self.inbox[kind]:
            return
        response = self.inbox[kind].popleft()
        names = tuple(item.name for item in response.resources)
        if kind == CLUSTER:
            new = tuple(name for name in names if name not in self.clusters)
            self.clusters |= {item.name: item.version for item in response.resources}
            self.warm -= set(new)
            for name in response.removed:
                del self.clusters[name]
                self.warm.discard(name)
            self.say(Request(kind, response.nonce), now)
            if new or response.removed:
                self.say(Request(ENDPOINTS, subscribe=new, unsubscribe=response.removed), now)
        elif kind == ENDPOINTS:
            self.endpoints |= {item.name: item.version for item in response.resources}
            self.warm |= set(names) & self.clusters.keys()
            self.say(Request(kind, response.nonce), now)
        else:
            if kind == ROUTES:
                self.routes = response.resources[0].version
            self.say(Request(kind, response.nonce), now)
        self.check()

    def check(self) -> None:
        assert self.uses.get(self.routes, frozenset()) <= self.warm & self.clusters.keys()


NAMES = "abcd"
CHOICE = st.tuples(
    st.dictionaries(st.sampled_from(NAMES), st.integers(1, 2), max_size=4),
    st.integers(1, 3),
    st.integers(1, 3),
)
EVENT = st.one_of(CHOICE, st.sampled_from([CLUSTER, ENDPOINTS, ROUTES, LISTENER]), st.floats(0, 100))


@settings(max_examples=300)
@given(st.lists(EVENT, max_size=60))
def test_routes_always_lead_to_warm_clusters_and_the_newest_state_wins(events: Iterable[object]) -> None:
    uses: dict[str, frozenset[str]] = {}
    ads = Ads()
    model = Model(ads, uses)
    now, wanted = 0.0, State()
    model.start()
    for event in events:
        if isinstance(event, str):
            model.take(event, now)
        elif isinstance(event, float):
            now += event
            model.step(now)
        elif isinstance(event, tuple):
            chosen, routes, ends = event
            clusters = " ".join(f"{name}{version}" for name, version in chosen.items())
            version = f"{routes}{sorted(chosen)}"
            uses[version] = frozenset(chosen)
            wanted = state(clusters, version, " ".join(f"{name}{ends}" for name in chosen))
            ads.want(wanted)
            model.step(now)
    for _ in range(60):
        for kind in KINDS:
            model.take(kind, now)
    if wanted.routes:
        assert ads.followed is wanted
        assert model.routes == wanted.routes["main"].version
        assert {name: model.endpoints[name] for name in wanted.clusters} == {
            name: wanted.endpoints[name].version for name in wanted.clusters
        }
        quiet = model.sent
        model.step(now)
        assert model.sent == quiet
        for _ in range(20):
            now = ads.wake_at or now
            model.step(now)
            model.take(CLUSTER, now)
        assert model.clusters == {name: item.version for name, item in wanted.clusters.items()}
