"""A proxy's bucket for a share of a budget, by Envoy's arithmetic, in whatever time the test has.

The bucket fills as the whole budget does; a call costs the more, the smaller the share. A new share fills
nothing. ``tests/sidecar/envoy/test_limits.py`` holds the real one to the same.
"""

from collections import deque
from collections.abc import Mapping

from amalgam8.model.slices import FIRST_SHARE
from amalgam8.runtime.latest import Latest
from amalgam8.sidecar.proxy import Demand

RULE = "limit"
BUDGET = "limit/0"


class BucketProxy:
    """Calls come with ``call``. ``rate`` calls a second and ``depth`` at once is the whole budget."""

    def __init__(self, rate: float, depth: float) -> None:
        self.slices: Latest[Mapping[str, float]] = Latest({})
        self.calls = self.passed = 0
        self._rate, self._depth = rate, depth
        self._tokens = depth
        self._at: float | None = None

    async def demand(self) -> Mapping[str, Demand]:
        return {RULE: Demand(self.calls, self.passed)}

    @property
    def share(self) -> float:
        return self.slices.value.get(BUDGET, FIRST_SHARE)

    def call(self, now: float, count: int = 1) -> int:
        """Calls at ``now``; how many pass."""
        if self._at is not None:
            self._tokens = min(self._depth, self._tokens + (now - self._at) * self._rate)
        self._at = now
        passed = 0
        for _ in range(count):
            self.calls += 1
            if self.share > 0 and self._tokens >= 1 / self.share:
                self._tokens -= 1 / self.share
                passed += 1
        self.passed += passed
        return passed


class Windows:
    """What passed and what should have, over every window of ``seconds``."""

    def __init__(self, rate: float, seconds: float = 10.0) -> None:
        self.over = self.under = 0.0
        self._rate = rate
        self._seconds = seconds
        self._log: deque[tuple[float, int, int]] = deque()

    def add(self, now: float, came: int, passed: int) -> None:
        """Calls since the last time; keeps the largest deviation, relative to the budget of a window."""
        self._log.append((now, came, passed))
        while self._log[0][0] <= now - self._seconds:
            self._log.popleft()
        if now - self._log[0][0] < self._seconds * 0.98:
            return
        budget = self._rate * self._seconds
        calls, through = (sum(entry[i] for entry in self._log) for i in (1, 2))
        self.over = max(self.over, through / budget - 1)
        self.under = max(self.under, (min(calls, budget) - through) / budget)
