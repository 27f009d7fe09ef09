"""The mesh and rule files of the demos: valid, and about services, versions and programs that exist."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
import re2
import yaml
from tests.examples.programs import EXAMPLES

from amalgam8.model.rule import Abort, Delay, Rule
from amalgam8.model.rule_reader import read_rules

MESH_FILES = sorted(EXAMPLES.glob("*/mesh.yaml"))
RULE_FILES = sorted(EXAMPLES.glob("*/rules/*.yaml"))


def name(path: Path) -> str:
    return str(path.relative_to(EXAMPLES))


def services(mesh_file: Path) -> list[dict[str, Any]]:
    document = yaml.safe_load(mesh_file.read_text())
    assert document.keys() == {"services"}
    found: list[dict[str, Any]] = document["services"]
    return found


def rules(file: Path) -> list[Rule]:
    return read_rules(msgspec.json.encode(yaml.safe_load(file.read_text())))


@pytest.mark.parametrize("file", MESH_FILES, ids=name)
def test_each_service_has_both_tag_styles_and_a_program(file: Path) -> None:
    for service in services(file):
        assert service.keys() <= {"service", "tags", "command", "port", "replicas", "env"}
        plain, qualified = service["tags"]
        assert qualified == f"version={plain}"
        interpreter, script = service["command"].split()
        assert interpreter == "python"
        assert (file.parent / script).is_file()
        assert all(isinstance(value, str) for value in service.get("env", {}).values())


def test_the_demos_have_their_instances() -> None:
    started = {
        file.parent.name: sorted((s["service"], s["tags"][0], s.get("replicas", 1)) for s in services(file))
        for file in MESH_FILES
    }
    assert started == {
        "helloworld": [("helloworld", "v1", 2), ("helloworld", "v2", 2)],
        "bookinfo": [
            ("details", "v1", 1),
            ("productpage", "v1", 1),
            ("ratings", "v1", 1),
            ("reviews", "v1", 1),
            ("reviews", "v2", 1),
            ("reviews", "v3", 1),
        ],
    }


@pytest.mark.parametrize("file", RULE_FILES, ids=name)
def test_rules_name_what_is_in_the_mesh(file: Path) -> None:
    mesh = services(file.parents[1] / "mesh.yaml")
    known = {(s["service"], tag) for s in mesh for tag in s["tags"]}
    for rule in rules(file):
        assert rule.destination in {service for service, _ in known}
        tagged = [(rule.destination, tags) for tags in tags_of(rule)]
        if rule.match and rule.match.source:
            tagged.append((rule.match.source.name, tuple(rule.match.source.tags)))
        assert {(service, tag) for service, tags in tagged for tag in tags} <= known


def tags_of(rule: Rule) -> list[tuple[str, ...]]:
    backends = rule.route.backends if rule.route else ()
    faults = [action for action in rule.actions if isinstance(action, Delay | Abort)]
    assert len(faults) == len(rule.actions)  # the demos use no other action
    return [tuple(part.tags) for part in (*backends, *faults)]


@pytest.mark.parametrize("folder", ["bookinfo", "helloworld"])
def test_ids_are_readable_and_used_once(folder: str) -> None:
    ids = [rule.id for file in RULE_FILES if file.parts[-3] == folder for rule in rules(file)]
    assert len(ids) == len(set(ids))
    assert all(rule_id.startswith(f"{folder}-") for rule_id in ids)


def test_later_steps_stand_above_earlier_ones() -> None:
    for folder, destination, steps in (
        ("bookinfo", "reviews", ["all-v1", "jason-v2", "split-v3"]),
        ("helloworld", "helloworld", ["default-v1", "split-v2", "header-v2"]),
    ):
        priorities = [
            rule.priority
            for step in steps
            for rule in rules(EXAMPLES / folder / "rules" / f"{step}.yaml")
            if rule.destination == destination
        ]
        assert all(lower < higher for lower, higher in pairwise(priorities))


@pytest.mark.parametrize("step", ["jason-v2", "delay"])
@pytest.mark.parametrize(
    ("cookie", "found"),
    [("user=jason", True), ("a=b;user=jason;c=d", True), ("user=jasons", False), ("superuser=jason", False)],
)
def test_the_pattern_finds_jason_and_nobody_else(step: str, cookie: str, found: bool) -> None:
    (rule,) = rules(EXAMPLES / "bookinfo" / "rules" / f"{step}.yaml")
    assert rule.match
    (pattern,) = dict(rule.match.headers).values()
    assert bool(re2.search(pattern, cookie)) is found
