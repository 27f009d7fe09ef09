"""Orders as clients send them, and the record's own arithmetic."""

from typing import Any

import pytest

from amalgam8.controller.rollout import EVENTS_KEPT, Order, read_order
from amalgam8.model.errors import InvalidInput, InvalidJson
from tests.contracts.test_rollout_store import rollout

LEAST = {"service": "reviews", "version": ["v2"]}


def test_defaults() -> None:
    assert read_order(LEAST) == Order("reviews", ("v2",), (5, 25, 50, 100), 60, 0.01, None, 50)


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"service": "a/b"}, r"\$.service: holds a slash"),
        ({"version": []}, r"\$.version: name 1 to"),
        ({"version": ["v2", "v2"]}, "each once"),
        ({"version": ["v2,blue"]}, "no comma"),
        ({"steps": []}, r"\$.steps: 1 to 50 shares"),
        ({"steps": [0, 100]}, "between 0.01 and 100 percent"),
        ({"steps": [50, 25, 100]}, "each must be larger"),
        ({"steps": [5, 25]}, "the last must be 100"),
        ({"interval": 0.5}, r"\$.interval: must be between 1 and 86400 seconds"),
        ({"max_errors": 1.5}, r"\$.max_errors: must be between 0 and 1"),
        ({"max_p99": 0}, r"\$.max_p99: must be above 0 and at most 60 seconds"),
        ({"min_requests": 0}, r"\$.min_requests: must be between 1 and"),
    ],
)
def test_what_is_out_of_bounds_is_named(changed: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidInput, match=text):
        read_order(LEAST | changed)


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ({"version": ["v2"]}, "service"),
        (LEAST | {"max_error": 1}, r"\$.max_error: unknown member; known are service, version"),
        (LEAST | {"interval": "1m"}, r"Expected `float`, got `str` - at `\$.interval`"),
    ],
)
def test_what_is_no_order(document: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidJson, match=text):
        read_order(document)


def test_each_edition_is_one_more_and_events_are_bounded() -> None:
    found = rollout()
    for number in range(EVENTS_KEPT + 10):
        found = found.went("2030", str(number))
    assert found.edition == EVENTS_KEPT + 11
    assert len(found.events) == EVENTS_KEPT
    assert found.events[-1].text == str(EVENTS_KEPT + 9)


def test_what_it_builds_on() -> None:
    found = rollout(step=2)
    assert (found.share, found.old, found.rule) == (50, ("v1",), "rollout-r")
    turned = found.turned("2030", "too bad", "failed")
    assert (turned.state, turned.outcome, turned.reason, turned.active) == (
        "returning",
        "failed",
        "too bad",
        True,
    )
