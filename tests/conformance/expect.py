"""What a case says, held against ``decide``, and against what a proxy answered."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec
import pytest

from amalgam8.routing.decide import Decision, decide
from amalgam8.routing.resolve import Routing
from tests.conformance.case import OWN_SERVICE, Ask
from tests.conformance.chances import Chance, chances, instances, statuses
from tests.conformance.pool import Seen

LIMITED = 429
DEVIATIONS = 5.0
"""Standard deviations by which a share may miss: one false alarm in some million checks."""


class Answer(msgspec.Struct):
    """What came of one request. ``status`` -1: no complete answer; ``instance`` that answered, or empty."""

    status: int
    instance: str
    seconds: float
    headers: dict[str, str]
    seen: Seen | None
    body: bytes = b""


def possible(routing: Routing, ask: Ask) -> tuple[Decision, list[Chance] | None]:
    """What ``decide`` says; None for what it does not know, since it is the instance's own doing."""
    decision = decide(routing, ask.request(), OWN_SERVICE)
    word, _, rest = ask.path.partition("?")[0].rpartition("/")[2].partition("-")
    if word in ("fail", "broken", "drip"):
        return decision, None
    own = int(rest) if word == "status" else 200
    took = float(rest) if word == "slow" else 0.0
    return decision, chances(decision, ask.method, own, took)


def check_decide(routing: Routing, ask: Ask) -> None:
    """Raises AssertionError where ``decide`` and the case differ."""
    decision, found = possible(routing, ask)
    if found is not None:
        shares = dict(ask.statuses)
        if decision.limits:
            shares.pop(LIMITED, None)
        if shares:
            total = sum(shares.values())
            assert statuses(found) == near({key: share / total for key, share in shares.items()})
        reasons = {chance.reason for chance in found if chance.reason}
        if shares and (ask.reason or set(shares) == {200}):
            assert reasons == ({ask.reason} if ask.reason else set())
        _check_instances(ask, found)
        if ask.seconds is not None:
            low, high = ask.seconds
            assert all(low - 0.02 <= chance.seconds <= high for chance in found if chance.status in shares)
    if ask.rules is not None:
        assert {*decision.rules, *(rule for each in decision.outcomes for rule in each.rules)} == set(
            ask.rules
        )
    if ask.copies is not None:
        copies: dict[str, float] = {name: 0.0 for name, share in ask.copies.items() if not share}
        for copy in decision.mirrors:
            copies.update({name: copy.probability / len(copy.instances) for name in copy.instances})
        assert copies == near(ask.copies)
    _check_seen_by_decide(ask, decision)


def _check_instances(ask: Ask, found: list[Chance]) -> None:
    if ask.to is not None:
        assert set(instances(found)) == set(ask.to)
    if ask.split is not None:
        assert instances(found) == near(ask.split)


def _check_seen_by_decide(ask: Ask, decision: Decision) -> None:
    sees = ask.sees
    if sees is not None:
        assert sees.path in ("", decision.path)
        sent = dict(ask.request().headers)
        for name in decision.remove_headers:
            sent.pop(name, None)
        sent.update(decision.set_headers)
        assert not set(sees.lacks) & {name for name in sent if not name.startswith("x-a8-")}
        for name, value in decision.set_headers:
            if name in sees.headers:
                assert value.encode().decode("latin1") == sees.headers[name]
    for key, value in (ask.record or {}).items():
        traced = {name: words for each in decision.outcomes for name, words in each.traces}
        if key in traced or value is None:
            assert traced.get(key) == value


def check_answers(routing: Routing, ask: Ask, answers: Sequence[Answer]) -> None:
    """Raises AssertionError where a proxy's answers are not what the case and ``decide`` say."""
    _, found = possible(routing, ask)
    count = Counter(answer.status for answer in answers)
    limited = bool(decide(routing, ask.request(), OWN_SERVICE).limits)
    if limited:
        assert count == {key: round(share * len(answers)) for key, share in ask.statuses.items()}
    else:
        assert_shares(count, ask.statuses, len(answers))
    by_instance = Counter(answer.instance for answer in answers if answer.instance)
    if ask.to is not None:
        assert set(by_instance) == set(ask.to)
    if ask.split is not None:
        assert_shares(by_instance, ask.split, len(answers))
    for answer in answers:
        _check_answer(ask, answer)
        if found is not None and not (limited and answer.status == LIMITED):
            assert admitted(answer, found), f"{answer} is none of {found}"


def admitted(answer: Answer, found: Iterable[Chance]) -> bool:
    """Whether it is one of these chances: status, instance and reason, and not too early."""
    reason = answer.headers.get("x-a8-reason", "")
    return any(
        chance.status == answer.status
        and (answer.instance in chance.instances if answer.instance else not chance.instances)
        and chance.reason == reason
        and answer.seconds >= chance.seconds - 0.02
        for chance in found
    )


def _check_answer(ask: Ask, answer: Answer) -> None:
    if ask.seconds is not None:
        assert ask.seconds[0] <= answer.seconds <= ask.seconds[1]
    if ask.reason:
        assert answer.headers.get("x-a8-reason") == ask.reason
        words = dict(part.split("=", 1) for part in ask.reason.split("; ")[1:])
        body = msgspec.json.decode(answer.body)
        assert {"error", "service", "rule"} == set(body)
        assert body["service"] == words["service"]
        assert (body["rule"] or "") == words.get("rule", "")
    for name, pattern in ask.answers.items():
        assert re.search(pattern, answer.headers.get(name, "")), name
    sees, seen = ask.sees, answer.seen
    if sees is None or seen is None:
        return
    assert sees.path in ("", seen.path)
    assert sees.method in ("", seen.method)
    assert sees.size in (None, seen.size)
    for name in sees.lacks:
        assert not seen.values(name), name
    for name, value in sees.headers.items():
        (came,) = seen.values(name)
        assert re.fullmatch(value[1:], came) if value.startswith("~") else came == value, f"{name}: {came}"


def near(shares: dict[str, float] | dict[int, float]) -> object:
    """Shares that are equal but for the last digits; those of nothing are left out."""
    return pytest.approx(shares, abs=2e-4)


def assert_shares(
    count: Counter[int] | Counter[str], shares: dict[int, float] | dict[str, float], total: int
) -> None:
    """Counts that this many draws with these shares give."""
    assert set(count) <= {key for key, share in shares.items() if share}, f"{count} for {shares}"
    for key, share in shares.items():
        expected = total * share
        slack = DEVIATIONS * (expected * (1 - min(share, 1.0))) ** 0.5
        assert abs(count[key] - expected) <= slack + (1 if 0 < share < 1 else 0), f"{count} for {shares}"  # type: ignore[index]
