"""mesh.yaml: which apps make up a mesh, read and checked.

Each finding names its place in the file (``$.services[0].port``) and the reason; all are told at once.
Refuses to look at the machine: whether a port is free is for whoever starts the mesh to find out.
"""

import shlex
import sys
from collections import Counter
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import msgspec

from amalgam8.cli.documents import parse, read_file
from amalgam8.model.caller import name_problem
from amalgam8.model.errors import InvalidInput

INSTANCES_LIMIT = 100
TAGS_LIMIT = 64
TEXT_LIMIT = 4096

_MEMBERS = ("service", "tags", "command", "port", "replicas", "env")
_OURS = {"PORT": "set `port` in its place", "HOST": "every app listens on 127.0.0.1"}


class App(msgspec.Struct, frozen=True):
    """One instance to be started. ``port`` 0: any free one. ``label`` is unique in its mesh."""

    label: str
    service: str
    tags: tuple[str, ...]
    command: tuple[str, ...]
    port: int
    env: dict[str, str]

    @property
    def name(self) -> str:
        """``service:tag,tag``, the form of A8_SERVICE."""
        return f"{self.service}:{','.join(self.tags)}" if self.tags else self.service


class Mesh(msgspec.Struct, frozen=True):
    """All instances, and the folder in which their commands run."""

    folder: Path
    apps: tuple[App, ...]


def read_mesh(path: Path) -> Mesh:
    """Read the file at ``path``.

    Raises:
        InvalidInput: it cannot be read, or says something that is not allowed.
    """
    reader = _Reader()
    apps = reader.mesh(parse(read_file(path), str(path)))
    if reader.problems:
        raise InvalidInput(f"{path}: {'; '.join(reader.problems)}")
    return Mesh(path.resolve().parent, tuple(apps))


class _Reader:
    """Walks one document; collects findings instead of stopping at the first."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self._labels: Counter[str] = Counter()

    def say(self, path: str, reason: str) -> None:
        self.problems.append(f"{path}: {reason}")

    def mesh(self, document: object) -> list[App]:
        members = self.members(document, "$", ("services",))
        listed = members.get("services")
        if not isinstance(listed, list) or not listed:
            if isinstance(document, dict):
                self.say("$.services", "expected a list of at least one service")
            return []
        apps: list[App] = []
        ports: dict[int, str] = {}
        for i, item in enumerate(listed):
            path = f"$.services[{i}]"
            started = self.service(item, path)
            for app in started[:1]:
                if app.port and ports.setdefault(app.port, path) != path:
                    self.say(f"{path}.port", f"{app.port} is also the port of {ports[app.port]}")
            apps += started
        if len(apps) > INSTANCES_LIMIT:
            self.say("$.services", f"{len(apps)} instances; at most {INSTANCES_LIMIT} are allowed")
        return apps

    def service(self, item: object, path: str) -> list[App]:
        members = self.members(item, path, _MEMBERS)
        if not isinstance(item, dict):
            return []
        service = self.name(members.get("service"), f"{path}.service")
        tags = self.tags(members.get("tags"), f"{path}.tags")
        command = self.command(members.get("command"), f"{path}.command")
        port = self.number(members.get("port"), f"{path}.port", 0, 1, 65535)
        replicas = self.number(members.get("replicas"), f"{path}.replicas", 1, 1, INSTANCES_LIMIT)
        env = self.env(members.get("env"), f"{path}.env")
        if port and replicas > 1:
            self.say(f"{path}.port", f"{replicas} replicas cannot share one port; leave port out")
        label = f"{service}-{tags[0]}" if tags else service
        apps: list[App] = []
        for _ in range(replicas):
            self._labels[label] += 1
            apps.append(App(f"{label}.{self._labels[label]}", service, tags, command, port, env))
        return apps

    def members(self, item: object, path: str, known: tuple[str, ...]) -> dict[str, Any]:
        if not isinstance(item, dict):
            self.say(path, f"expected an object with {known[0]}")
            return {}
        for member in item:
            if member not in known:
                near = get_close_matches(member, known, n=1)
                hint = f"did you mean {near[0]}?" if near else f"allowed are {', '.join(known)}"
                self.say(f"{path}.{member}", f"unknown member; {hint}")
        return item

    def name(self, item: object, path: str) -> str:
        if not isinstance(item, str):
            self.say(path, "is missing" if item is None else "expected text")
            return "?"
        problem = name_problem(item) or ("holds a colon" if ":" in item else None)
        if problem:
            self.say(path, problem)
        return item

    def tags(self, item: object, path: str) -> tuple[str, ...]:
        if item is None:
            return ()
        if not isinstance(item, list):
            self.say(path, "expected a list of texts")
            return ()
        if len(item) > TAGS_LIMIT:
            self.say(path, f"{len(item)} tags; at most {TAGS_LIMIT} are allowed")
        for i, tag in enumerate(item):
            if not isinstance(tag, str):
                self.say(f"{path}[{i}]", "expected text; put it in quotes")
            elif not tag.isprintable() or not tag.strip() or "," in tag or tag != tag.strip():
                self.say(f"{path}[{i}]", "a tag is printable text without commas and spaces around it")
            elif tag in item[:i]:
                self.say(f"{path}[{i}]", f"{tag} is given twice")
        return tuple(tag for tag in item if isinstance(tag, str))

    def command(self, item: object, path: str) -> tuple[str, ...]:
        words: list[str] = []
        if isinstance(item, str):
            try:
                words = shlex.split(item)
            except ValueError as error:
                self.say(path, f"cannot be split into words: {error}")
                return ()
        elif isinstance(item, list) and all(isinstance(word, str) for word in item):
            words = list(item)
        else:
            self.say(path, "is missing" if item is None else "expected text or a list of texts")
            return ()
        if not words or not words[0]:
            self.say(path, "is empty")
        elif any("\0" in word or len(word) > TEXT_LIMIT for word in words):
            self.say(path, f"a word holds a NUL or more than {TEXT_LIMIT} characters")
        elif words[0] in ("python", "python3"):
            # The Python that runs this has the libraries; another one on the path may not.
            words[0] = sys.executable
        return tuple(words)

    def number(self, item: object, path: str, default: int, low: int, high: int) -> int:
        if item is None:
            return default
        if isinstance(item, bool) or not isinstance(item, int) or not low <= item <= high:
            self.say(path, f"expected a whole number from {low} to {high}")
            return default
        return item

    def env(self, item: object, path: str) -> dict[str, str]:
        if item is None:
            return {}
        if not isinstance(item, dict):
            self.say(path, "expected an object of names and texts")
            return {}
        found: dict[str, str] = {}
        for name, value in item.items():
            where = f"{path}.{name}"
            if name in _OURS:
                self.say(where, f"is set by a8ctl; {_OURS[name]}")
            elif not name or "=" in name or "\0" in name:
                self.say(where, "is no name of a variable")
            elif isinstance(value, bool):
                found[name] = "true" if value else "false"
            elif not isinstance(value, (str, int, float)):
                self.say(where, "expected text")
            elif "\0" in str(value) or len(str(value)) > TEXT_LIMIT:
                self.say(where, f"holds a NUL or more than {TEXT_LIMIT} characters")
            else:
                found[name] = str(value)
        return found
