"""The neutral figures: what is read from a proxy's text, across its restarts, and how many there may be."""

from amalgam8.model.traffic import BOUNDS, SERIES_LIMIT, Count, Tally
from amalgam8.sidecar.counts import Counts, read


def requests(destination: str, version: str, status: str, count: int, reason: str = "") -> str:
    labels = f'destination="{destination}",version="{version}",status="{status}",reason="{reason}"'
    return f"a8_proxy_requests_total{{{labels}}} {count}\n"


def bucket(le: str, count: int, destination: str = "reviews", version: str = "v1") -> str:
    labels = f'destination="{destination}",version="{version}",le="{le}"'
    return f"a8_proxy_request_duration_seconds_bucket{{{labels}}} {count}\n"


def test_calls_by_version() -> None:
    text = "# HELP a8_proxy_requests_total Calls.\n" + "".join(
        [
            requests("reviews", "v1,x", "2xx", 10),
            requests("reviews", "v1,x", "5xx", 2),
            requests("reviews", "v1,x", "0xx", 1),
            requests("reviews", "", "5xx", 3, "unavailable"),
            requests("reviews", "", "4xx", 4, "denied"),
            requests("", "", "4xx", 9, "unknown"),
            'a8_proxy_calls_total{status="2xx"} 10\n',
        ]
    )
    assert read(text.encode()) == {
        ("reviews", "v1,x"): Tally(13, 3),
        ("reviews", ""): Tally(7, 3, 3),
    }


def test_times_of_any_edges() -> None:
    text = (
        bucket("0.001", 3) + bucket("0.002", 4) + bucket("0.0025", 4) + bucket("60", 9) + bucket("+Inf", 10)
    )
    expected = (3, 1, *[0] * (len(BOUNDS) - 3), 5, 1)
    assert read(text.encode()) == {("reviews", "v1"): Tally(times=expected)}


def test_names_that_were_escaped() -> None:
    found = read(requests('a\\"b\\\\c', "v1", "2xx", 1).encode())
    assert list(found) == [('a"b\\c', "v1")]


def test_names_that_no_report_may_have_are_left_out() -> None:
    text = requests("reviews", "v" * 5000, "2xx", 1) + requests("x" * 65, "v1", "2xx", 1)
    assert read((text + requests("reviews", "v1", "2xx", 1)).encode()) == {("reviews", "v1"): Tally(1)}


class Proxy:
    def __init__(self) -> None:
        self.text = ""

    async def metrics(self) -> bytes:
        return self.text.encode()


async def test_sums_go_on_when_the_proxy_begins_anew_or_is_away() -> None:
    proxy = Proxy()
    counts = Counts(proxy.metrics)
    sums = []
    for text in (
        requests("reviews", "v1", "2xx", 10),
        requests("reviews", "v1", "2xx", 15),
        "",
        requests("reviews", "v1", "2xx", 4),
        requests("reviews", "v1", "2xx", 5) + requests("reviews", "v2", "5xx", 1),
    ):
        proxy.text = text
        found = await counts.traffic()
        sums.append([(one.version, one.tally.requests) for one in found.counts])
    assert sums == [[("v1", 10)], [("v1", 15)], [("v1", 15)], [("v1", 19)], [("v1", 20), ("v2", 1)]]
    assert found.epoch == (await counts.traffic()).epoch
    assert found.epoch != (await Counts(proxy.metrics).traffic()).epoch


async def test_the_busiest_stay() -> None:
    proxy = Proxy()
    counts = Counts(proxy.metrics)
    proxy.text = "".join(requests(f"s{i}", "v1", "2xx", i + 1) for i in range(3 * SERIES_LIMIT))
    found = await counts.traffic()
    assert len(found.counts) == SERIES_LIMIT
    assert min(count.tally.requests for count in found.counts) == 2 * SERIES_LIMIT + 1
    assert Count(f"s{3 * SERIES_LIMIT - 1}", "v1", Tally(3 * SERIES_LIMIT)) in found.counts
