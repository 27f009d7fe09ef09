"""Places: the same document has its members where they stand, as YAML and as JSON."""

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from amalgam8.cli.places import Place, Places

YAML = """\
# A comment.
rules:
  - id: a
    destination: reviews
    match:
      headers: {x.y: "1", Cookie: abc}
  - {id: b,
     destination: ratings}
"""
JSON = """\
{"rules": [
\t{"id": "a", "match": {"headers": {"x.y": "1"}}},
\t{"id": "b\\"]", "tags": ["x",
\t\t"y"], "n": -1.5e3, "e": {}, "l": []}
]}
"""


@pytest.mark.parametrize(
    ("path", "place", "member"),
    [
        ("$", (2, 1), (2, 1)),
        ("$.rules", (3, 3), (2, 1)),
        ("$.rules[0].id", (3, 9), (3, 5)),
        ("$.rules[0].match.headers.x.y", (6, 22), (6, 17)),
        ("$.rules[0].match.headers.Cookie", (6, 35), (6, 27)),
        ("$.rules[1].destination", (8, 19), (8, 6)),
        ("$.rules[1].missing", (7, 5), (7, 5)),
        ("$.rules[9].x", (3, 3), (3, 3)),
        ("$.other", (2, 1), (2, 1)),
    ],
)
def test_places_in_yaml(path: str, place: tuple[int, int], member: tuple[int, int]) -> None:
    places = Places(YAML, "x.yaml")
    assert places.of(path) == place
    assert places.of(path, member=True) == member


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("$", (1, 1)),
        ("$.rules[0].match.headers.x.y", (2, 43)),
        ("$.rules[1].id", (3, 9)),
        ("$.rules[1].tags[1]", (4, 3)),
        ("$.rules[1].n", (4, 14)),
        ("$.rules[1].l[0]", (4, 36)),
    ],
)
def test_places_in_json(path: str, place: tuple[int, int]) -> None:
    assert Places(JSON, "x.json").of(path) == place


def test_a_root_of_another_name() -> None:
    assert Places("- id: a\n- id: b\n", "x.yaml", "$.rules").of("$.rules[1].id") == (2, 7)
    assert Places("", "x.yaml").of("$.rules") == Place(1, 1)


values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text('ab"\\/{}[]:, \n\té', max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(values, st.sampled_from([None, 2, "\t"]))
def test_a_place_in_json_is_where_the_value_begins(value: Any, indent: Any) -> None:
    text = json.dumps(value, indent=indent)
    lines = text.split("\n")
    places = Places(text, "x.json")

    def walk(item: Any, path: str) -> None:
        line, column = places.of(path)
        rest = "\n".join([lines[line - 1][column - 1 :], *lines[line:]])
        assert json.JSONDecoder().raw_decode(rest)[0] == item
        children = (
            item.items() if isinstance(item, dict) else enumerate(item) if isinstance(item, list) else ()
        )
        for key, child in children:
            walk(child, f"{path}.{key}" if isinstance(item, dict) else f"{path}[{key}]")

    walk(value, "$")


@given(values)
def test_yaml_places_every_value(value: Any) -> None:
    text = yaml.safe_dump(value, allow_unicode=True)
    places = Places(text, "x.yaml")

    def walk(item: Any, path: str) -> None:
        place = places.of(path)
        assert 1 <= place.line <= text.count("\n") + 1
        if isinstance(item, int) and not isinstance(item, bool):
            assert text.split("\n")[place.line - 1][place.column - 1 :].startswith(str(item))
        children = (
            item.items() if isinstance(item, dict) else enumerate(item) if isinstance(item, list) else ()
        )
        for key, child in children:
            walk(child, f"{path}.{key}" if isinstance(item, dict) else f"{path}[{key}]")

    walk(value, "$")
