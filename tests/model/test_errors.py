"""Errors read well, and many problems stay one bounded text."""

from amalgam8.model.errors import InvalidRule, Problem


def test_every_problem_is_kept_and_twenty_are_shown() -> None:
    error = InvalidRule([Problem(f"$.rules[{i}]", "is wrong") for i in range(30)])
    assert len(error.problems) == 30
    assert "$.rules[19]: is wrong" in str(error)
    assert "$.rules[20]" not in str(error)
    assert str(error).endswith("and 10 more")
