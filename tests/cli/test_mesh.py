import sys
from pathlib import Path

import pytest
import yaml

from amalgam8.cli.mesh import INSTANCES_LIMIT, Mesh, read_mesh
from amalgam8.model.errors import InvalidInput

WHOLE = {
    "service": "reviews",
    "tags": ["v1", "version=v1"],
    "command": "python 'my reviews.py' --fast",
    "env": {"STAR_COLOR": "black", "LEVEL": 3, "ON": True},
}


def read(folder: Path, document: object) -> Mesh:
    file = folder / "mesh.yaml"
    file.write_text(yaml.safe_dump(document))
    return read_mesh(file)


def test_a_whole_entry(tmp_path: Path) -> None:
    mesh = read(
        tmp_path, {"services": [WHOLE | {"replicas": 2}, {"service": "web", "command": ["./w", "a b"]}]}
    )
    assert mesh.folder == tmp_path.resolve()
    one, two, web = mesh.apps
    assert (one.label, two.label, web.label) == ("reviews-v1.1", "reviews-v1.2", "web.1")
    assert one.command == (sys.executable, "my reviews.py", "--fast")
    assert one.env == {"STAR_COLOR": "black", "LEVEL": "3", "ON": "true"}
    assert (one.name, web.name) == ("reviews:v1,version=v1", "web")
    assert (web.command, web.port, web.env, web.tags) == (("./w", "a b"), 0, {}, ())


def test_labels_stay_unique_over_entries(tmp_path: Path) -> None:
    mesh = read(tmp_path, {"services": [WHOLE, WHOLE | {"port": 9080}, WHOLE | {"port": 9081}]})
    assert [app.label for app in mesh.apps] == ["reviews-v1.1", "reviews-v1.2", "reviews-v1.3"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"service": None}, "$.services[0].service: is missing"),
        ({"service": "a b"}, "$.services[0].service: holds a slash, white space"),
        ({"service": "a:b"}, "$.services[0].service: holds a colon"),
        ({"service": "x" * 65}, "is longer than 64 bytes"),
        ({"service": 3}, "$.services[0].service: expected text"),
        ({"tags": "v1"}, "$.services[0].tags: expected a list"),
        ({"tags": [1.0]}, "$.services[0].tags[0]: expected text"),
        ({"tags": ["a,b"]}, "$.services[0].tags[0]: a tag is"),
        ({"tags": ["a", "a"]}, "$.services[0].tags[1]: a is given twice"),
        ({"command": None}, "$.services[0].command: is missing"),
        ({"command": ""}, "$.services[0].command: is empty"),
        ({"command": "a 'b"}, "$.services[0].command: cannot be split"),
        ({"command": [1]}, "$.services[0].command: expected text or a list"),
        ({"port": 0}, "$.services[0].port: expected a whole number from 1 to 65535"),
        ({"port": True}, "$.services[0].port"),
        ({"port": 9080, "replicas": 2}, "$.services[0].port: 2 replicas cannot share one port"),
        ({"replicas": 0}, "$.services[0].replicas"),
        ({"replicas": 1.5}, "$.services[0].replicas"),
        ({"env": ["A=b"]}, "$.services[0].env: expected an object"),
        ({"env": {"PORT": "1"}}, "$.services[0].env.PORT: is set by a8ctl"),
        ({"env": {"A": None}}, "$.services[0].env.A: expected text"),
        ({"env": {"A=": "b"}}, "$.services[0].env.A=: is no name"),
        ({"comand": "x"}, "$.services[0].comand: unknown member; did you mean command?"),
        ({"zzz": "x"}, "$.services[0].zzz: unknown member; allowed are service, "),
    ],
)
def test_each_mistake_names_place_and_reason(tmp_path: Path, change: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read(tmp_path, {"services": [WHOLE | change]})
    assert str(caught.value).startswith(f"{tmp_path / 'mesh.yaml'}: ")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (None, "$: expected an object with services"),
        ([WHOLE], "$: expected an object with services"),
        ({}, "$.services: expected a list"),
        ({"services": []}, "$.services: expected a list of at least one"),
        ({"services": ["x"]}, "$.services[0]: expected an object with service"),
        ({"service": [WHOLE]}, "$.service: unknown member; did you mean services?"),
        (
            {"services": [WHOLE | {"port": 9080}, WHOLE | {"port": 9080}]},
            "$.services[1].port: 9080 is also the port of $.services[0]",
        ),
        (
            {"services": [WHOLE | {"replicas": 60}, WHOLE | {"replicas": 60}]},
            f"120 instances; at most {INSTANCES_LIMIT}",
        ),
    ],
)
def test_mistakes_of_the_whole(tmp_path: Path, document: object, said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read(tmp_path, document)
    assert said in str(caught.value)


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        read(tmp_path, {"services": [WHOLE | {"port": 0}, WHOLE | {"command": ""}]})
    assert "$.services[0].port" in str(caught.value)
    assert "$.services[1].command" in str(caught.value)


def test_a_syntax_error_has_line_and_column(tmp_path: Path) -> None:
    file = tmp_path / "mesh.yaml"
    file.write_text("services:\n  - service: [\n")
    with pytest.raises(InvalidInput, match="line 3, column 1"):
        read_mesh(file)
