"""What is due at a Eureka, as a script in virtual time."""

import random
from collections import Counter

import msgspec
import pytest

from amalgam8.catalogs.eureka_document import PUBLISHED_KEY, read_instance
from amalgam8.model.instance import Endpoint, Instance
from amalgam8.registry.eureka_board import LEASE, Board, Outcome, Task, document, publishable
from tests.contracts.registry_store import instance

ONE = instance(port=1)
CHANGED = instance(port=1, tags=("v2",))


def board() -> Board:
    return Board(dice=lambda: 1.0)


def done(one: Board, now: float, outcome: Outcome = "done") -> Task | None:
    """Do what is due, with this outcome."""
    task = one.take(now)
    if task is not None:
        one.settle(task, outcome, now)
    return task


def test_it_is_registered_renewed_and_taken_away() -> None:
    one = board()
    one.want(ONE, 0)
    assert (len(one), one.published(), one.waiting()) == (1, 0, 1)
    assert done(one, 0) == Task("register", ONE, first=True)
    assert (one.published(), one.waiting()) == (1, 0)
    assert done(one, 29.9) is None
    assert done(one, 30) == Task("renew", ONE)
    assert done(one, 60) == Task("renew", ONE)
    one.leave(ONE.id, 61)
    assert done(one, 61) == Task("cancel", ONE)
    assert (len(one), done(one, 1000)) == (0, None)


def test_a_change_is_sent_at_once_and_the_same_is_not() -> None:
    one = board()
    one.want(ONE, 0)
    done(one, 0)
    one.want(ONE, 1)
    assert done(one, 1) is None
    one.want(CHANGED, 2)
    assert done(one, 2) == Task("register", CHANGED)
    assert done(one, 31) is None, "what was due before is no longer"
    assert done(one, 32) == Task("renew", CHANGED)


def test_of_what_changes_on_the_way_only_the_last_is_sent() -> None:
    one = board()
    one.want(ONE, 0)
    task = one.take(0)
    for number in range(100):
        one.want(instance(port=1, tags=(f"v{number}",)), 0)
    assert one.take(0) is None, "one request at a time"
    assert task is not None
    one.settle(task, "done", 1)
    assert done(one, 1) == Task("register", instance(port=1, tags=("v99",)))
    assert done(one, 1) is None


def test_what_leaves_on_the_way_is_taken_away_after_it() -> None:
    one = board()
    one.want(ONE, 0)
    task = one.take(0)
    assert task is not None
    one.leave(ONE.id, 0)
    one.settle(task, "done", 1)
    assert done(one, 1) == Task("cancel", ONE)
    one.want(ONE, 2)
    task = one.take(2)
    assert task is not None
    one.leave(ONE.id, 2)
    one.settle(task, "refused", 2)
    assert len(one) == 0, "it never was there"


def test_what_comes_back_while_it_is_taken_away_is_registered() -> None:
    one = board()
    one.want(ONE, 0)
    done(one, 0)
    one.leave(ONE.id, 1)
    task = one.take(1)
    assert task is not None
    one.want(ONE, 1)
    one.settle(task, "done", 2)
    assert done(one, 2) == Task("register", ONE, first=True)


def test_what_eureka_has_forgotten_is_registered_again() -> None:
    one = board()
    one.want(ONE, 0)
    done(one, 0)
    assert done(one, 30, "unknown") == Task("renew", ONE)
    assert done(one, 30) == Task("register", ONE, first=True)


@pytest.mark.parametrize("outcome", ["foreign", "refused"])
def test_what_cannot_be_published_has_another_turn_later(outcome: Outcome) -> None:
    one = board()
    one.want(ONE, 0)
    assert done(one, 0, outcome) is not None
    assert one.published() == 0
    assert done(one, 29.9) is None
    assert done(one, 30) == Task("register", ONE, first=True)
    one.want(CHANGED, 31)
    done(one, 31, outcome)
    one.leave(ONE.id, 32)
    assert len(one) == (0 if outcome == "foreign" else 1), "what is refused leaves there what was before"


def test_other_content_of_what_was_refused_is_tried_at_once() -> None:
    one = board()
    one.want(ONE, 0)
    done(one, 0, "refused")
    one.want(CHANGED, 1)
    assert done(one, 1) == Task("register", CHANGED, first=True)


def test_while_none_answers_nothing_is_lost() -> None:
    one = board()
    one.want(ONE, 0)
    done(one, 0)
    for now in (30, 31, 400):
        assert done(one, now, "unreachable") == Task("renew", ONE)
    assert done(one, 500, "unknown") == Task("renew", ONE)
    assert done(one, 500) == Task("register", ONE, first=True)


def test_what_left_meanwhile_is_forgotten_once_its_lease_there_has_ended() -> None:
    one = board()
    one.want(ONE, 0)
    done(one, 0)
    one.leave(ONE.id, 1)
    assert done(one, 1, "unreachable") == Task("cancel", ONE)
    assert done(one, LEASE, "unreachable") == Task("cancel", ONE)
    assert done(one, LEASE + 1, "unreachable") == Task("cancel", ONE)
    assert len(one) == 0


def test_many_that_came_at_once_are_not_renewed_at_once() -> None:
    one = Board(dice=random.Random(1).random)
    for port in range(1, 1001):
        one.want(instance(port=port), 0)
    while done(one, 0):
        pass
    per_second = Counter[int]()
    for tick in range(900):
        while done(one, tick / 10):
            per_second[tick // 10] += 1
    assert max(per_second.values()) < 100
    assert sum(per_second[second] for second in range(31)) >= 1000, "each within a period"


def test_what_may_have_arrived_is_taken_away() -> None:
    one = board()
    one.want(ONE, 0)
    assert done(one, 0, "unreachable") is not None
    one.leave(ONE.id, 1)
    assert done(one, 1) == Task("cancel", ONE)
    assert len(one) == 0


class There:
    """A Eureka as far as tasks go: leases that end, answers that are lost, requests that do not arrive."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._held: dict[str, tuple[Instance, float]] = {}

    def known(self, now: float) -> dict[str, Instance]:
        self._held = {key: held for key, held in self._held.items() if now - held[1] <= LEASE}
        return {key: held[0] for key, held in self._held.items()}

    def forget(self) -> None:
        if self._held:
            del self._held[self._dice.choice(list(self._held))]

    def act(self, task: Task, now: float, *, well: bool = False) -> Outcome:
        chance = 0.0 if well else self._dice.random()
        if chance > 0.8:
            return self._dice.choice(["refused", "unreachable"])
        identity = task.instance.id
        unknown = identity not in self.known(now)
        if task.action == "cancel":
            self._held.pop(identity, None)
        elif task.action == "register" or not unknown:
            one = task.instance if task.action == "register" else self._held[identity][0]
            self._held[identity] = (one, now)
        if chance > 0.7:
            return "unreachable"
        return "unknown" if unknown and task.action != "register" else "done"


@pytest.mark.parametrize("seed", range(100))
def test_random_ways_end_as_they_should(seed: int) -> None:
    """Whatever happens on the way, in the end exactly what is wanted stands there."""
    dice = random.Random(seed)
    one, there, wanted = Board(dice=dice.random), There(dice), dict[str, Instance]()
    now, going = 0.0, list[Task]()
    for _ in range(100):
        now += dice.random() * 20
        port = dice.randint(1, 4)
        if dice.random() < 0.5:
            sample = instance(port=port, tags=(f"v{dice.randint(1, 3)}",))
            wanted[sample.id] = sample
            one.want(sample, now)
        else:
            wanted.pop(instance(port=port).id, None)
            one.leave(instance(port=port).id, now)
        if (task := one.take(now)) is not None:
            going.append(task)
        if going and dice.random() < 0.7:
            task = going.pop(dice.randrange(len(going)))
            one.settle(task, there.act(task, now), now)
        if dice.random() < 0.1:
            there.forget()
    for task in going:
        one.settle(task, there.act(task, now, well=True), now)
    for tick in range(int(2 * LEASE)):
        while (last := one.take(now + tick)) is not None:
            one.settle(last, there.act(last, now + tick, well=True), now + tick)
    assert there.known(now + 2 * LEASE) == wanted
    assert (one.published(), one.waiting(), len(one)) == (len(wanted), 0, len(wanted))


@pytest.mark.parametrize(
    ("kind", "value", "metadata", "fit"),
    [
        ("http", "h:1", None, True),
        ("https", "h", {"a": 1}, True),
        ("tcp", "h:1", [PUBLISHED_KEY], True),
        ("udp", "h:1", None, False),
        ("user", "nonsense:port", None, False),
        ("http", "h:1", {PUBLISHED_KEY: "true"}, False),
    ],
)
def test_what_is_published(kind: str, value: str, metadata: object, fit: bool) -> None:
    raw = msgspec.Raw(msgspec.json.encode(metadata))
    assert publishable(Instance("i", "s", Endpoint(kind, value), metadata=raw)) is fit


def test_the_document_says_what_it_is_and_leaves_nothing_out() -> None:
    one = msgspec.structs.replace(
        ONE,
        status="OUT_OF_SERVICE",
        tags=("v1", "blue"),
        metadata=msgspec.Raw(b'{"zone":"z1","n":[1]}'),
    )
    extension = {"overriddenstatus": "OUT_OF_SERVICE", "homePageUrl": "http://h/", "leaseInfo": {"x": 1}}
    shown = document(one, extension, lease=90, wall=1_900_000_000.5)["instance"]
    assert shown["metadata"] == {
        "zone": "z1",
        "n": "[1]",
        "amalgam8.tags": "v1,blue",
        PUBLISHED_KEY: "true",
    }
    assert (shown["status"], shown["overriddenstatus"]) == ("OUT_OF_SERVICE", "UNKNOWN")
    assert (shown["leaseInfo"]["durationInSecs"], shown["leaseInfo"]["renewalIntervalInSecs"]) == (90, 30)
    assert (shown["homePageUrl"], shown["lastDirtyTimestamp"]) == ("http://h/", "1900000000500")
    back = read_instance(shown).instance
    assert (back.tags, back.status, back.service_name) == (one.tags, one.status, one.service_name)
    assert back.endpoint.value == one.endpoint.value
