"""Reading values: lenient, so that all findings come at once, and each with its path."""

import pytest

from amalgam8.model.document import PATTERN_LIMIT, TAGS_LIMIT, TEXT_LIMIT, DocumentReader
from amalgam8.model.errors import InvalidJson, InvalidRule


@pytest.fixture
def reader() -> DocumentReader:
    return DocumentReader()


def findings(reader: DocumentReader) -> list[tuple[str, str]]:
    return [(problem.path, problem.reason) for problem in reader.problems]


def test_nothing_found_is_nothing_raised(reader: DocumentReader) -> None:
    reader.finish()


def test_a_wrong_type_makes_the_whole_a_wrong_document(reader: DocumentReader) -> None:
    reader.say("$.a", "is odd")
    reader.text(7, "$.b")
    with pytest.raises(InvalidJson, match=r"\$\.a.*\$\.b"):
        reader.finish()


def test_findings_without_a_wrong_type_are_an_invalid_rule(reader: DocumentReader) -> None:
    reader.say("$.a", "is odd")
    reader.say("$.b", "is odder")
    with pytest.raises(InvalidRule) as caught:
        reader.finish()
    assert [problem.path for problem in caught.value.problems] == ["$.a", "$.b"]


def test_unknown_members_are_compared_with_known_ones(reader: DocumentReader) -> None:
    assert reader.members({"wieght": 1, "x": 2, "old": 3}, "$", known=("weight",), ignored=("old",))
    assert findings(reader) == [
        ("$.wieght", "unknown member; did you mean weight?"),
        ("$.x", "unknown member; allowed are weight"),
    ]


@pytest.mark.parametrize("value", [None, [], "x", 7])
def test_no_object(reader: DocumentReader, value: object) -> None:
    assert reader.members(value, "$", known=()) == {}
    assert reader.types_wrong


def test_null_is_absent(reader: DocumentReader) -> None:
    assert reader.optional({"a": None}, "$", "a", reader.text) is None
    assert reader.optional({}, "$", "a", reader.text) is None
    assert reader.optional({"a": "x"}, "$", "a", reader.text) == "x"
    assert findings(reader) == []


@pytest.mark.parametrize("value", [True, False, "1", None, []])
def test_booleans_and_texts_are_no_numbers(reader: DocumentReader, value: object) -> None:
    assert reader.number(value, "$") is None
    assert reader.whole(value, "$") is None
    assert len(reader.problems) == 2


def test_bounds(reader: DocumentReader) -> None:
    read, whole = reader.between(0, 5, " seconds"), reader.whole_between(-1, 3)
    assert (read(0, "$"), read(5, "$"), whole(-1, "$"), whole(3, "$")) == (0, 5, -1, 3)
    assert findings(reader) == []
    read(5.1, "$.a")
    whole(4, "$.b")
    assert findings(reader) == [
        ("$.a", "must be between 0 and 5 seconds"),
        ("$.b", "must be between -1 and 3"),
    ]


def test_a_number_beyond_all_bounds_is_still_a_number(reader: DocumentReader) -> None:
    assert reader.number(10**400, "$") == 1e18
    assert reader.share(10**400, "$") == 1e18
    assert findings(reader) == [("$", "must be between 0 and 1 (0 = not set)")]


def test_one_of_a_few_words(reader: DocumentReader) -> None:
    read = reader.one_of("a", "b")
    assert [read(word, "$") for word in ("a", "b", "")] == ["a", "b", ""]
    assert findings(reader) == []
    read("d", "$.y")
    assert findings(reader) == [("$.y", "must be one of a, b")]


def test_tags(reader: DocumentReader) -> None:
    assert reader.tags(["b", "a", "a"], "$") == ("b", "a", "a")
    assert findings(reader) == []
    assert reader.distinct_tags(["a", "a"], "$.t") == ("a", "a")
    reader.tags(["", "x" * (TEXT_LIMIT + 1)], "$.u")
    reader.tags(["t"] * (TAGS_LIMIT + 1), "$.v")
    assert reader.needed_tags({}, "$") == ()
    assert [path for path, _ in findings(reader)] == ["$.t", "$.u[0]", "$.u[1]", "$.v", "$.tags"]


def test_text_is_counted_in_bytes(reader: DocumentReader) -> None:
    reader.text("é" * (TEXT_LIMIT // 2), "$")
    assert findings(reader) == []
    reader.text("é" * (TEXT_LIMIT // 2) + "x", "$")
    assert findings(reader) == [("$", f"is longer than {TEXT_LIMIT} bytes")]


@pytest.mark.parametrize("pattern", ["", ".*", r"^(.*?;)?(user=jason)(;.*)?$", r"\pL+", r"\Qa.b\E", "(?i)x"])
def test_patterns_of_re2(reader: DocumentReader, pattern: str) -> None:
    assert reader.pattern(pattern, "$") == pattern
    assert findings(reader) == []


@pytest.mark.parametrize("pattern", ["*", "(", "(?=x)", r"(a)\1", "[b-a]", "a{1001}", "(?P<x"])
def test_what_re2_refuses(reader: DocumentReader, pattern: str) -> None:
    reader.pattern(pattern, "$.a")
    ((path, reason),) = findings(reader)
    assert (path, reason[:16]) == ("$.a", "no RE2 pattern: ")


def test_a_long_pattern_is_not_even_read(reader: DocumentReader) -> None:
    reader.pattern("(" * (PATTERN_LIMIT + 1), "$")
    assert findings(reader) == [("$", f"a pattern longer than {PATTERN_LIMIT} bytes")]


@pytest.mark.parametrize(("name", "fine"), [("", True), ("a.b:c", True), ("a/b", False), ("x" * 65, False)])
def test_names_of_services(reader: DocumentReader, name: str, fine: bool) -> None:
    reader.service(name, "$")
    assert (findings(reader) == []) is fine
