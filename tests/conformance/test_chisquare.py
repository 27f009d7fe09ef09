"""Chi-square finds what is far off, and lets pass what chance brings."""

from random import Random

import pytest

from tests.conformance.chisquare import limit, unlikely


@pytest.mark.parametrize(
    ("freedom", "level", "known"), [(1, 0.05, 3.841), (2, 0.01, 9.210), (5, 0.001, 20.515), (3, 1e-4, 21.108)]
)
def test_limits_are_those_of_the_tables(freedom: int, level: float, known: float) -> None:
    assert limit(freedom, level) == pytest.approx(known, rel=0.04)


def test_what_is_far_off_is_unlikely() -> None:
    assert unlikely({"a": 60, "b": 60}, {"a": 0.9, "b": 0.1}, 1e-9)
    assert unlikely({"a": 120}, {"a": 0.5, "b": 0.5}, 1e-9)
    assert unlikely({"a": 40, "b": 80}, {"a": 0.999, "b": 0.001}, 1e-9)


def test_chance_is_not_unlikely() -> None:
    random = Random(1)
    for _ in range(2000):
        share = random.random()
        came = sum(random.random() < share for _ in range(120))
        assert not unlikely({"a": came, "b": 120 - came}, {"a": share, "b": 1 - share}, 1e-9)
