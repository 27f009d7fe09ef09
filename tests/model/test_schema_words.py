"""Pieces of schemas."""

import re
from typing import Any

import jsonschema
import pytest

from amalgam8.model.schema_words import Schema, an_object, folded, nothing, optional, tags, text, whole


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        (an_object({"a": {}}), [{}, {"a": 1}], [{"b": 1}, []]),
        (an_object({"a": {}}, required=("a",)), [{"a": 1}], [{}]),
        (optional(whole(0, 2), "words"), [0, 2, None], [3, -1, 0.5, True, "1"]),
        (tags(), [[], ["a", "b"]], [["a", "a"], [""], ["a"] * 65, "a", [1]]),
        (tags(distinct=False, least=1), [["a", "a"]], [[]]),
        (text("a+", 3), ["a", "aaa"], ["", "b", "aaaa", 1]),
        (nothing("array"), [[], None], [[1], ""]),
    ],
)
def test_a_piece(schema: Schema, good: list[Any], bad: list[Any]) -> None:
    validator = jsonschema.Draft202012Validator(schema)
    assert [value for value in good if not validator.is_valid(value)] == []
    assert [value for value in bad if validator.is_valid(value)] == []


def test_a_word_is_found_in_any_case() -> None:
    assert all(re.fullmatch(folded("x-a8-"), word) for word in ("x-a8-", "X-A8-", "x-A8-"))
    assert not re.fullmatch(folded("host"), "hos")
