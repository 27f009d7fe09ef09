"""What the pages show is true: their examples can be read, their links lead somewhere, their commands exist.

An example says in the info string of its fence what it is: ``yaml rules`` must be accepted, ``json refused``
must be refused, ``json hello`` and its like must decode as events of the streams, ``json`` must be JSON.
"""

import re
import shlex
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import msgspec
import pytest
import typer
import typer.main
import yaml

from amalgam8.cli.main import application, hoist
from amalgam8.cli.mesh import read_mesh
from amalgam8.model.errors import InvalidInput
from amalgam8.model.instance import Instance
from amalgam8.model.report import SidecarReport
from amalgam8.model.rule_reader import read_list
from amalgam8.model.slices import SliceReport, Slices
from amalgam8.model.stream import Hello, InstanceDelta, InstanceSnapshot
from amalgam8.routing.plan import PlanDelta, PlanSnapshot
from amalgam8.runtime.settings import load
from amalgam8.sidecar.settings import REFUSED, Settings, checked

ROOT = Path(__file__).parents[2]
GENERATED = {ROOT / "docs/reference" / f"{name}.md" for name in ("settings", "errors", "metrics", "cli")}
"""Made by ``make docs``; a link to one that is not there yet is no mistake of the page that has it."""

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])

_FENCE = re.compile(r"^( *)```([^\n`]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} +(.+?)\s*$", re.MULTILINE)


class Example(NamedTuple):
    """One fenced block: ``info`` is what stands behind the opening fence."""

    where: str
    info: str
    text: str


def examples() -> list[Example]:
    return list(_examples())


def _examples() -> Iterator[Example]:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for found in _FENCE.finditer(text):
            indent, info, body = found.groups()
            line = text.count("\n", 0, found.start()) + 1
            plain = "".join(part.removeprefix(indent) for part in body.splitlines(keepends=True))
            yield Example(f"{page.relative_to(ROOT)}:{line}", info.strip(), plain)


def rules(text: str) -> None:
    found = yaml.safe_load(text)
    read_list(found if isinstance(found, dict) and "rules" in found else {"rules": found})


def refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        rules(text)


def one_of(kind: type[Any], text: str) -> None:
    msgspec.json.decode(text, type=kind)


@contextmanager
def saved(text: str) -> Iterator[str]:
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(text)
        file.flush()
        yield file.name


def mesh(text: str) -> None:
    with saved(text) as path:
        read_mesh(Path(path))


def sidecar_settings(text: str) -> None:
    with saved(text) as path:
        settings, _ = load(Settings, "a8sidecar", ["--config", path], {}, refused=REFUSED)
        checked(settings, ())


READERS: dict[str, Callable[[str], object]] = {
    "yaml": yaml.safe_load,
    "json": msgspec.json.decode,
    "yaml rules": rules,
    "json rules": rules,
    "yaml refused": refused,
    "json refused": refused,
    "yaml mesh": mesh,
    "yaml sidecar": sidecar_settings,
    "json instance": partial(one_of, Instance),
    "json report": partial(one_of, SidecarReport),
    "json slice-report": partial(one_of, SliceReport),
    "json hello": partial(one_of, Hello),
    "json slices": partial(one_of, Slices),
    "json instance-snapshot": partial(one_of, InstanceSnapshot),
    "json instance-delta": partial(one_of, InstanceDelta),
    "json plan-snapshot": partial(one_of, PlanSnapshot),
    "json plan-delta": partial(one_of, PlanDelta),
}
UNREAD = {"sh", "text", "http", "python"}


@pytest.mark.parametrize("example", examples(), ids=lambda example: example.where)
def test_examples_are_what_they_say(example: Example) -> None:
    if example.info in UNREAD:
        return
    assert example.info in READERS, f"{example.where}: what is a {example.info!r}?"
    READERS[example.info](example.text)


def test_some_examples_are_rules() -> None:
    kinds = [example.info for example in examples()]
    assert kinds.count("yaml rules") > 5


def command_lines() -> list[tuple[str, list[str]]]:
    """Every call of a8ctl in a shell example: where it stands, and its arguments."""
    found = []
    for example in examples():
        if example.info != "sh":
            continue
        lexer = shlex.shlex(example.text.replace("\\\n", " ").replace("\n", " ; "), punctuation_chars=True)
        lexer.whitespace_split, lexer.commenters = True, ""
        words: list[str] = []
        for token in [*lexer, ";"]:
            if not set(token) <= set("();<>|&"):
                words += [] if not words and re.match(r"\w+=", token) else [token]
                continue
            if words and words[0].rpartition("/")[2] == "a8ctl":
                found.append((example.where, [shlex.split(word)[0] for word in words[1:]]))
            words = []
    return found


@pytest.mark.parametrize("line", command_lines(), ids=lambda line: f"{line[0]} {' '.join(line[1])}")
def test_commands_can_be_typed(line: tuple[str, list[str]]) -> None:
    """They are parsed, not run: a command or flag that does not exist fails."""
    arguments = hoist(line[1])
    commands = cast("typer.core.TyperGroup", typer.main.get_command(application())).commands
    at = next(i for i, word in enumerate(arguments) if word in commands)
    commands[arguments[at]].make_context(arguments[at], arguments[at + 1 :])


def test_commands_are_found() -> None:
    names = {arguments[0] for _, arguments in command_lines()}
    assert {"rule-create", "rule-delete", "route-list", "sidecar-list", "up"} <= names


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    broken = []
    for target in _LINK.findall(text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        if there in GENERATED and not there.exists():
            continue
        if not there.exists() or (anchor and anchor not in anchors(there)):
            broken.append(target)
    assert not broken


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_page_is_reached(page: Path) -> None:
    """Pages under docs/ can be found from the index."""
    index = ROOT / "docs" / "README.md"
    if not page.is_relative_to(index.parent) or page == index:
        return
    assert f"({page.relative_to(index.parent)})" in index.read_text(encoding="utf-8")


def anchors(page: Path) -> set[str]:
    """The names that headings of a page can be linked by."""
    headings = _HEADING.findall(_FENCE.sub("", page.read_text(encoding="utf-8")))
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}
