import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from amalgam8.cli.documents import SIZE_LIMIT, parse, read_rules, rules_in
from amalgam8.model.errors import InvalidInput


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("r.json", '{"rules": [\n  {"id" 1}]}', "r.json: line 2, column 9: "),
        ("r.yaml", "rules:\n  - id: a\n bad", "r.yaml: line 3, column "),
        ("r.yaml", "a: *nobody", "r.yaml: line 1, column 4: "),
        ("r.yaml", "a: 1\na: 2", "r.yaml: line 2, column 1: the member a is given twice"),
        ("r.yaml", "x: {503: a}", "r.yaml: line 1, column 5: the member 503 must be text"),
        ("r.yaml", "b: &b {x: 1}\na:\n  <<: *b", "line 3, column 3: merge keys (<<) are not supported"),
        ("r.yaml", "a: !!python/object/apply:os.system [ls]", "line 1, column 4: could not determine"),
        ("r.yaml", "a: 1\n---\nb: 2", "line 2, column 1: "),
        ("r.yaml", "a: \x07", "r.yaml: "),
        ("r.yaml", "a: .nan", "$.a: nan is no number"),
        ("r.yaml", "a: !!binary aGFsbG8=", "$.a: a bytes is nothing that JSON can say"),
        ("r.yaml", "a: !!set {x}", "$.a: a set is nothing"),
        ("r.json", '{"a": NaN}', "NaN is not JSON"),
        ("r.json", '{"a": 1e999}', "$.a: inf is no number"),
        ("r.json", '{"a": 1, "a": 2}', "'a' is given twice"),
        ("r.json", '{"a": "\\ud800"}', "$.a: half of a surrogate pair"),
        ("r.json", "[" * 100_000, "nested too deep"),
        ("r.yaml", "[" * 20_000, "r.yaml: "),
        ("r.json", "[" * 200 + "]" * 200, "nested too deep; the limit is 100"),
        ("r.json", "1" * 5000, "r.json: "),
        ("r.json", "", "line 1, column 1"),
    ],
)
def test_what_is_wrong_is_told_in_a_sentence(name: str, text: str, said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse(text, name)
    assert said in str(caught.value)


def test_a_few_bytes_do_not_become_billions_of_values() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    with pytest.raises(InvalidInput, match="more than the limit of"):
        parse("\n".join(lines), "r.yaml")


def test_an_alias_of_itself_ends() -> None:
    with pytest.raises(InvalidInput, match="nested too deep"):
        parse("a: &a\n  b: *a", "r.yaml")


def test_times_and_anchors_stay_what_they_look_like() -> None:
    text = "expires: 2030-01-31T12:00:00Z\nday: 2030-01-31\nx: &v [v1]\ny: *v"
    assert parse(text, "r.yaml") == {
        "expires": "2030-01-31T12:00:00Z",
        "day": "2030-01-31",
        "x": ["v1"],
        "y": ["v1"],
    }


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=10),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(st.characters(codec="ascii", categories=["L"]), max_size=5), inner, max_size=4
        )
    ),
    max_leaves=10,
)


@given(VALUES)
def test_both_languages_say_the_same(value: Any) -> None:
    assert parse(json.dumps(value), "r.json") == value
    assert parse(yaml.safe_dump(value, allow_unicode=True), "r.yaml") == value


@pytest.mark.parametrize(
    ("document", "rules"),
    [
        ({"rules": [1]}, [1]),
        ([1, 2], [1, 2]),
        ({"destination": "a"}, [{"destination": "a"}]),
        ({"rules": [1], "revision": 3}, [1]),
    ],
)
def test_the_wrapper(document: object, rules: list[object]) -> None:
    assert rules_in(document, "r") == rules


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (None, "holds no rules"),
        ({}, "holds no rules"),
        ([], "holds no rules"),
        ({"rules": None}, "holds no rules"),
        ({"rules": {}}, "$.rules: expected a list"),
        ({"rules": [1], "extra": 1}, "$.extra: unknown member"),
        ("text", "found a single str"),
        (3, "found a single int"),
    ],
)
def test_what_holds_no_rules(document: object, said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        rules_in(document, "r")
    assert said in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="No such file"):
        read_rules(str(tmp_path / "none.yaml"))
    with pytest.raises(InvalidInput, match="Is a directory"):
        read_rules(str(tmp_path))
    with pytest.raises(InvalidInput, match="null byte"):
        read_rules("a\0b")
    (tmp_path / "latin").write_bytes(b"a: \xe9")
    with pytest.raises(InvalidInput, match="byte 3 is not UTF-8"):
        read_rules(str(tmp_path / "latin"))
    (tmp_path / "large").write_bytes(b"#" * (SIZE_LIMIT + 1))
    with pytest.raises(InvalidInput, match="larger than the limit"):
        read_rules(str(tmp_path / "large"))
