"""Writes the generated pages of docs/reference from the code; with --check, says which are not current.

Settings from their dataclasses, errors from their tree, metrics from their tables, commands from the
command line itself, the rules' schema from the language. A test holds the pages to the code.
"""

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from amalgam8.cli.reference import markdown as commands
from amalgam8.controller import metrics as controller_metrics
from amalgam8.controller.settings import REFUSED as CONTROLLER_REFUSED
from amalgam8.controller.settings import ControllerSettings
from amalgam8.model import errors
from amalgam8.model.schema import rule_schema
from amalgam8.registry import metrics as registry_metrics
from amalgam8.registry.settings import REFUSED as REGISTRY_REFUSED
from amalgam8.registry.settings import RegistrySettings
from amalgam8.runtime.settings import describe
from amalgam8.sidecar.envoy.tcp import stats as tcp_stats
from amalgam8.sidecar.figures import HELP as AGENT_METRICS
from amalgam8.sidecar.nginx.metrics import HELP as PROXY_METRICS
from amalgam8.sidecar.settings import REFUSED as SIDECAR_REFUSED
from amalgam8.sidecar.settings import Settings as SidecarSettings
from amalgam8.sidecar.tcp import TcpProxy
from amalgam8.web.errors import CODES, status_of

FOLDER = Path(__file__).parents[1] / "docs" / "reference"
NOTE = "<!-- Made by `make docs` from the code; edit the code. -->\n"

SETTINGS_INTRODUCTION = """\
Each setting may be a flag, an environment variable or an entry of the YAML file that `--config`
(`A8_CONFIG`) names, and is looked for in that order. In names of flags `-` and `_` are the same.
A wrong value ends the daemon with one line and exit code 2.
"""

ERRORS_INTRODUCTION = """\
The registry answers `{"Error": text, "code", "request_id"}`, the controller
`{"error": "error_<code>", "description": text, "code", "request_id"}`. `code` is stable; texts are for
people.
"""

Row = Iterable[str]


def table(header: Row, rows: Iterable[Row]) -> str:
    """A Markdown table."""
    lines = [list(header), ["---"] * len(list(header)), *(list(row) for row in rows)]
    return (
        "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
        + "\n"
    )


def settings_page() -> str:
    parts = [
        NOTE,
        "# Settings\n",
        SETTINGS_INTRODUCTION,
    ]
    daemons: tuple[tuple[str, type[Any], dict[str, str]], ...] = (
        ("a8registry", RegistrySettings, dict(REGISTRY_REFUSED)),
        ("a8controller", ControllerSettings, dict(CONTROLLER_REFUSED)),
        ("a8sidecar", SidecarSettings, dict(SIDECAR_REFUSED)),
    )
    for program, cls, refused in daemons:
        rows = (
            (
                f"`{s.flag}`",
                f"`{s.env}`",
                f"`{s.yaml}`",
                s.allowed,
                f"`{s.default}`" if s.default else "none",
                s.help,
            )
            for s in describe(cls)
        )
        parts.append(f"## {program}\n")
        parts.append(table(("flag", "environment", "file", "allowed", "default", "meaning"), rows))
        if refused:
            parts.append("Known from the original, and refused:\n")
            parts.append(
                table(("name", "answer"), ((f"`{name}`", words) for name, words in sorted(refused.items())))
            )
    return "\n".join(parts)


def tree(cls: type[errors.A8Error] = errors.A8Error) -> Iterator[type[errors.A8Error]]:
    yield cls
    for below in cls.__subclasses__():
        if below.__module__ == errors.__name__:
            yield from tree(below)


def errors_page() -> str:
    drawn = {words[0].strip("├└│─ ,"): words[1].strip() for words in _drawn()}
    rows = []
    for cls in tree():
        error = cls([]) if cls is errors.InvalidRule else cls("")
        rows.append((f"`{cls.code}`", str(status_of(error)), drawn.get(cls.__name__, "")))
    own = ((f"`{code}`", str(status), "said by the HTTP layer itself") for status, code in CODES.items())
    return "\n".join(
        [
            NOTE,
            "# Errors\n",
            ERRORS_INTRODUCTION,
            table(("code", "status", "meaning"), [*rows, *own]),
        ]
    )


def _drawn() -> Iterator[tuple[str, str]]:
    for line in (errors.__doc__ or "").splitlines():
        name, gap, meaning = line.strip("├└│─ ").partition("  ")
        if gap:
            yield name, meaning


def metrics_page() -> str:
    about = "Each daemon answers `GET /metrics` in the Prometheus text format.\n"
    parts = [NOTE, "# Metrics\n", about]
    found: dict[str, str]
    for program, found in (
        ("a8registry", {name: meaning for name, (*_, meaning) in registry_metrics.METRICS.items()}),
        ("a8controller", controller_metrics.METRICS),
        ("a8sidecar: the agent", AGENT_METRICS),
        (
            "a8sidecar: the proxy",
            {
                **{name: meaning for name, (_, meaning) in PROXY_METRICS.items()},
                **{metric.name: metric.text for metric in tcp_stats([TcpProxy(1, "")])},
            },
        ),
    ):
        parts.append(f"## {program}\n")
        parts.append(table(("name", "meaning"), ((f"`{name}`", words) for name, words in found.items())))
    return "\n".join(parts)


def pages() -> dict[Path, str]:
    """Every generated page by its path."""
    return {
        FOLDER / "settings.md": settings_page(),
        FOLDER / "errors.md": errors_page(),
        FOLDER / "metrics.md": metrics_page(),
        FOLDER / "cli.md": NOTE + "\n" + commands(),
        FOLDER / "rules.schema.json": json.dumps(rule_schema(), indent=2) + "\n",
    }


def main() -> int:
    stale = [path for path, text in pages().items() if not path.exists() or path.read_text() != text]
    if "--check" in sys.argv[1:]:
        for path in stale:
            sys.stderr.write(f"{path.name} is not current: run make docs\n")
        return 1 if stale else 0
    for path, text in pages().items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
