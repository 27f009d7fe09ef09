"""Finding the destination that Envoy refuses, against a judge that refuses what it is told to."""

from hypothesis import given
from hypothesis import strategies as st

from amalgam8.sidecar.envoy.trial import Trial
from amalgam8.sidecar.envoy.ways import Branch

NAMES = st.dictionaries(st.sampled_from("abcdefghijkl"), st.integers(0, 3))


def part(name: str, version: int) -> Branch:
    return Branch(f"{name}{version}".encode(), frozenset({f"{name}{version}"}))


def judged(trial: Trial, bad: set[bytes], bad_targets: set[str] = frozenset()) -> int:  # type: ignore[assignment]
    """Play Envoy until the trial is complete; how often it refused."""
    refusals = 0
    for _ in range(200):
        if trial.complete:
            return refusals
        wrong = {name for found in trial.chosen.values() for name in found.targets & bad_targets}
        if wrong:
            trial.refused_targets({name: f"no {name}" for name in bad_targets})
        elif any(found.body in bad for found in trial.chosen.values()):
            refusals += 1
            trial.refused("no")
        else:
            trial.accepted()
    raise AssertionError("it does not end")


@given(NAMES, NAMES, st.sets(st.tuples(st.sampled_from("abcdefghijkl"), st.integers(0, 3))))
def test_all_but_the_refused_are_followed_and_those_keep_what_they_had(
    first: dict[str, int], second: dict[str, int], bad: set[tuple[str, int]]
) -> None:
    bodies = {part(*each).body for each in bad}
    trial = Trial()
    before: dict[str, bytes] = {}
    for wanted in (first, second):
        trial.want({name: part(name, version) for name, version in wanted.items()}, {})
        refusals = judged(trial, bodies)
        assert refusals <= 10 * len(
            bad
        )  # of twelve, each half that is left is tried whole first: 4 + 3 + 2 + 1
        wrong = {name for name, version in wanted.items() if (name, version) in bad}
        assert {rejection.destination for rejection in trial.rejected} == wrong
        for name, version in wanted.items():
            if name not in wrong:
                assert trial.chosen[name].body == part(name, version).body
            elif name in before:
                assert trial.chosen[name].body == before[name]
            else:
                assert not trial.chosen[name].targets
        assert trial.chosen.keys() == wanted.keys()
        before = {name: found.body for name, found in trial.chosen.items()}


def test_a_target_that_is_refused_rejects_its_destination_only() -> None:
    trial = Trial()
    trial.want({"a": part("a", 1), "b": part("b", 1)}, {})
    judged(trial, set())
    trial.want({"a": part("a", 2), "b": part("b", 2)}, {})
    judged(trial, set(), {"a2"})
    assert [(item.destination, item.reason) for item in trial.rejected] == [("a", "no a2")]
    assert trial.chosen["a"].body == b"a1"
    assert trial.chosen["b"].body == b"b2"
    trial.refused_targets({})
    judged(trial, set())
    assert trial.rejected == ()
    assert trial.chosen["a"].body == b"a2"


def test_what_could_not_be_rendered_keeps_what_it_had_and_says_why() -> None:
    trial = Trial()
    trial.want({"a": part("a", 1)}, {})
    judged(trial, set())
    trial.want({"a": None, "b": part("b", 1)}, {"a": "too much"})
    judged(trial, set())
    assert [(item.destination, item.reason) for item in trial.rejected] == [("a", "too much")]
    assert trial.chosen["a"].body == b"a1"


def test_a_refused_part_is_not_tried_again_until_it_changes() -> None:
    trial = Trial()
    trial.want({"a": part("a", 1)}, {})
    assert judged(trial, {b"a1"}) == 1
    trial.want({"a": part("a", 1), "b": part("b", 1)}, {})
    assert judged(trial, {b"a1"}) == 0
    assert [item.destination for item in trial.rejected] == ["a"]
    trial.want({"a": part("a", 2)}, {})
    assert judged(trial, {b"a1"}) == 0
    assert trial.rejected == ()


def test_words_are_cut() -> None:
    trial = Trial()
    trial.want({"a": part("a", 1)}, {})
    trial.refused("x" * 5000)
    assert len(trial.rejected[0].reason) == 1000
