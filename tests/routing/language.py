"""Rules, instances, callers and requests from a small vocabulary, so that they meet each other often."""

from hypothesis import strategies as st

from amalgam8.model.caller import Caller, caller
from amalgam8.model.instance import Endpoint, Instance
from amalgam8.model.rule import (
    Abort,
    Action,
    Affinity,
    Allow,
    Backend,
    Block,
    Delay,
    Deny,
    Match,
    Mirror,
    RateLimit,
    Resilience,
    Route,
    Rule,
    SetHeaders,
    Source,
    Trace,
    Uri,
    rfc3339,
)
from amalgam8.routing.decide import Request

NAMES = ("a", "b", "a b/ü")
"""Names of services; the last needs encoding, and no reader would let its slash and blank pass."""

HEADERS = ("Cookie", "X-User")
VALUES = ("1", "2", "12", "", "1,2", "2; 1")
PATTERNS = ("1", "^2$", "", "1|2", "(?i)x", "[^1]")
PATHS = ("/a/x", "/b", "/a", "/a%20b%2F%C3%BC/x?q=1", "/c/x", "/api/x", "/api", "/apix?q", "/")

names = st.sampled_from(NAMES)
tags = st.lists(st.sampled_from(["v1", "v2"]), max_size=2, unique=True).map(tuple)
some_tags = st.lists(st.sampled_from(["v1", "v2"]), min_size=1, max_size=2, unique=True).map(tuple)
callers: st.SearchStrategy[Caller] = st.builds(caller, st.sampled_from(["a", "web", ""]), tags)
sources = st.builds(Source, st.sampled_from(["a", "web", ""]), tags)
patterns = st.dictionaries(st.sampled_from(HEADERS), st.sampled_from(PATTERNS), max_size=2)
blocks = st.builds(Block, st.none() | sources, patterns).filter(lambda block: block != Block())
some_blocks = st.lists(blocks, max_size=2).map(tuple)
matches = st.none() | st.builds(Match, st.none() | sources, patterns, some_blocks, some_blocks, some_blocks)

zeros = st.sampled_from([0, 0.0])
dice = zeros | st.sampled_from([0.25, 1, 1.0])
faults = st.builds(Delay, st.sampled_from([0.5, 7, 7.0]), dice, tags) | st.builds(
    Abort, st.sampled_from([503, -1]), dice, tags
)
sent_headers = st.sampled_from(
    [SetHeaders({"X-User": "9"}), SetHeaders({"x-new": "1"}, ("Cookie",)), SetHeaders(remove=("x-user",))]
)
limits = st.builds(
    RateLimit,
    st.sampled_from([5, 5.0]),
    zeros | st.sampled_from([1, 1.0, 2]),
    zeros | st.just(3),
    st.sampled_from(["all", "caller", "header:x-user"]),
)
mirrors = st.builds(Mirror, some_tags, zeros | st.sampled_from([10, 10.0, 100]))
traces = st.builds(Trace, st.sampled_from(["", "k"]), st.sampled_from(["", "v"]), tags)
actions: st.SearchStrategy[Action] = st.one_of(
    faults, faults, sent_headers, limits, mirrors, traces, st.just(Allow()), st.just(Deny())
)
resiliences = st.builds(
    Resilience, max_requests=st.sampled_from([0, 3]), sleep_window=zeros | st.sampled_from([5, 5.0])
)
uris = st.sampled_from(
    [
        None,
        None,
        None,
        Uri(path="/api"),
        Uri(prefix="/api", prefix_rewrite="/z"),
        Uri(prefix="/"),
        Uri(path="/a", prefix_rewrite="/w"),
    ]
)
affinities = st.sampled_from([None, Affinity("x-user"), Affinity("", "user")])
seconds = zeros | st.sampled_from([1, 1.0, 2.5])
retries = st.sampled_from([None, 0, 2])


@st.composite
def backends(draw: st.DrawFn, weight: float = 0) -> Backend:
    return Backend(
        draw(st.just("") | names),
        draw(some_tags),
        weight,
        draw(st.sampled_from(["", "round_robin", "random"])),
        draw(st.none() | resiliences),
        draw(seconds),
        draw(retries),
    )


@st.composite
def routes(draw: st.DrawFn) -> Route:
    """Backends whose weights the language allows."""
    left, found = 10_000, []
    for _ in range(draw(st.integers(0, 3))):
        units = draw(st.integers(1, left)) if left else 0
        left -= units
        if units:
            found.append(draw(backends(units / 10_000)))
    if left or not found:
        found += [draw(backends()) for _ in range(draw(st.integers(1, 3)))]
    return Route(
        tuple(draw(st.permutations(found))), draw(uris), draw(seconds), draw(retries), draw(affinities)
    )


@st.composite
def rules(draw: st.DrawFn, destinations: st.SearchStrategy[str] = names) -> list[Rule]:
    made = []
    for i in range(draw(st.integers(0, 7))):
        route = draw(st.none() | routes())
        done: tuple[Action, ...] = () if route else tuple(draw(st.lists(actions, min_size=1, max_size=3)))
        made.append(
            Rule(
                f"rule-{i}",
                draw(st.integers(-1, 1)),
                draw(destinations),
                match=draw(matches),
                route=route,
                actions=done,
                expires=draw(st.sampled_from(["", "", rfc3339(5), rfc3339(15)])),
                created=rfc3339(draw(st.integers(0, 2))),
            )
        )
    return made


def one(service: str, port: int, *carried: str, kind: str = "http") -> Instance:
    value = f"10.0.0.1:{port}"
    return Instance(f"{service}-{port}", service, Endpoint(kind, value), 60, "UP", tags=carried)


kinds = st.sampled_from(["http", "http", "tcp", "https", "user", "udp"])
instances: st.SearchStrategy[dict[str, tuple[Instance, ...]]] = st.dictionaries(
    names,
    st.lists(
        st.tuples(st.integers(1, 9), tags, kinds), min_size=1, max_size=5, unique_by=lambda drawn: drawn[0]
    ),
).map(
    lambda drawn: {
        name: tuple(one(name, port, *carried, kind=kind) for port, carried, kind in found)
        for name, found in drawn.items()
    }
)

hosts = st.none() | st.sampled_from(["a", "b:80", "b", "mesh:6379", "web"])
requests: st.SearchStrategy[Request] = st.builds(
    lambda path, headers, host: Request(path, {**headers, **({} if host is None else {"Host": host})}),
    st.sampled_from(PATHS),
    st.dictionaries(st.sampled_from(["cookie", "X-USER", "x-a8-user"]), st.sampled_from(VALUES)),
    hosts,
)
