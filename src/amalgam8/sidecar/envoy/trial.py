"""Which rendered part of each destination Envoy is to have: the newest, but where Envoy refuses it.

Envoy takes or refuses routes as a whole, and does not name the destination. So after a refusal the parts
that changed since the last acceptance are tried in halves until one is left; that destination keeps the
part that was accepted last, or is unavailable if it had none, and all others go on. Every refusal makes
the circle of suspects smaller, so it ends. Pure: whoever drives it says what Envoy answered.
"""

from collections.abc import Mapping

from amalgam8.model.report import Rejection
from amalgam8.sidecar.envoy.ways import Branch, unavailable

WORDS_LIMIT = 1000


class Trial:
    """Parts wanted, refused and accepted, by destination."""

    def __init__(self) -> None:
        self._wanted: Mapping[str, Branch | None] = {}
        self._problems: Mapping[str, str] = {}
        self._good: dict[str, Branch] = {}
        self._bad: dict[str, tuple[Branch, str]] = {}
        self._bad_targets: dict[str, str] = {}
        self._limit: int | None = None
        self.chosen: dict[str, Branch] = {}
        """What to give to Envoy now."""
        self.complete = True
        """Whether ``chosen`` is what Envoy accepted, and the best that can be had."""

    def want(self, parts: Mapping[str, Branch | None], problems: Mapping[str, str]) -> None:
        """New parts; None where one cannot be rendered. ``problems``: why, or what was left out of one."""
        self._wanted, self._problems = parts, problems
        self._bad = {
            name: bad
            for name, bad in self._bad.items()
            if (part := parts.get(name)) is not None and part == bad[0]
        }
        self._limit = None
        self._choose()

    def accepted(self) -> None:
        """Envoy has taken all that was chosen."""
        self._good = dict(self.chosen)
        self._limit = None
        self._choose()
        self.complete = self._same(self.chosen, self._good)

    def refused(self, words: str) -> None:
        """Envoy has refused the routes made of what was chosen."""
        suspects = [
            name
            for name, part in sorted(self.chosen.items())
            if part is self._wanted[name] and not self._is_good(name, part)
        ]
        if len(suspects) == 1:
            self._bad[suspects[0]] = (self.chosen[suspects[0]], words[:WORDS_LIMIT])
            self._limit = None
        elif suspects:
            self._limit = len(suspects) // 2
        self._choose()

    def refused_targets(self, refused: Mapping[str, str]) -> None:
        """Envoy refuses these targets' clusters or endpoints, with its words."""
        self._bad_targets = {name: words[:WORDS_LIMIT] for name, words in refused.items()}
        self._choose()

    @property
    def rejected(self) -> tuple[Rejection, ...]:
        """Destinations that are not followed in full, and why."""
        found = dict(self._problems)
        found |= {name: words for name, (_, words) in self._bad.items()}
        for name, part in self._wanted.items():
            if part is not None and (words := self._target_words(part)):
                found[name] = words
        return tuple(Rejection(name, found[name]) for name in sorted(found))

    def _choose(self) -> None:
        chosen: dict[str, Branch] = {}
        changed = 0
        for name in sorted(self._wanted):
            part = self._wanted[name]
            if part is not None and self._is_bad(name, part):
                part = None
            elif part is not None and not self._is_good(name, part):
                changed += 1
                if self._limit is not None and changed > self._limit:
                    part = None
            chosen[name] = part or self._good.get(name) or unavailable(name)
        self.chosen = chosen
        self.complete = False

    def _is_bad(self, name: str, part: Branch) -> bool:
        bad = self._bad.get(name)
        return (bad is not None and bad[0] == part) or bool(self._target_words(part))

    def _is_good(self, name: str, part: Branch) -> bool:
        good = self._good.get(name)
        return good is part or (good is not None and good == part)

    def _target_words(self, part: Branch) -> str:
        if not self._bad_targets:
            return ""
        bad = sorted(part.targets & self._bad_targets.keys())
        return self._bad_targets[bad[0]] if bad else ""

    @staticmethod
    def _same(one: Mapping[str, Branch], other: Mapping[str, Branch]) -> bool:
        return one.keys() == other.keys() and all(
            part is other[name] or part == other[name] for name, part in one.items()
        )
