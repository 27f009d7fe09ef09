"""One proxy and its pool for each file that asks for them; at the end, what was left out and why."""

from collections import Counter
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

pytest.register_assert_rewrite("tests.conformance.expect", "tests.conformance.running")

from tests.conformance.proxies import PROXIES  # noqa: E402
from tests.conformance.running import Bench, bench  # noqa: E402

LACKS = "does not have yet: "


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=sorted(PROXIES), name="bench")
async def started(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Bench]:
    """A proxy that follows nothing yet."""
    async with bench(request.param, tmp_path_factory.mktemp(request.param)) as found:
        yield found


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many cases were left out, by feature."""
    count: Counter[str] = Counter()
    for report in terminalreporter.stats.get("skipped", []):
        words = str(report.longrepr)
        if LACKS in words:
            count.update(words.partition(LACKS)[2].rstrip("')").split(", "))
    if count:
        terminalreporter.section("conformance: cases left out, by feature")
        for feature, cases in sorted(count.items()):
            terminalreporter.line(f"{feature}: {cases}")
