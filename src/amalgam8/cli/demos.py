"""The demos that come with the package, and what to try next once one runs."""

import re
import shlex
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

import amalgam8
from amalgam8.cli.connect import CONTROLLER_URL
from amalgam8.model.errors import InvalidSetting


class Demo(StrEnum):
    HELLOWORLD = "helloworld"
    BOOKINFO = "bookinfo"


PAGE = {Demo.HELLOWORLD: "helloworld/hello", Demo.BOOKINFO: "productpage/productpage"}

RULES = {
    Demo.HELLOWORLD: ("default-v1", "split-v2", "header-v2"),
    Demo.BOOKINFO: ("all-v1", "jason-v2", "delay", "split-v3"),
}
"""The demo's rule files in the order in which they tell its story."""

COMMENT_WIDTH = 100


def folder(demo: Demo) -> Path:
    """Where the demo's files are: in an installed package, or at the root of a checkout.

    Raises:
        InvalidSetting: in neither.
    """
    package = Path(amalgam8.__file__).parent
    for examples in (package / "examples", package.parents[1] / "examples"):
        if (examples / demo / "mesh.yaml").is_file():
            return examples / demo
    raise InvalidSetting(f"--demo: the files of {demo} are not installed")


def next_steps(demo: Demo | None, services: Sequence[str], gateway: int, controller: int) -> str:
    """Lines that a person may follow; ``gateway`` and ``controller`` are ports."""
    a8ctl = "a8ctl"
    if f"http://localhost:{controller}" != CONTROLLER_URL:
        a8ctl += f" --controller-url http://localhost:{controller}"
    if demo is None:
        lines = [f"curl http://localhost:{gateway}/{services[0]}/", f"{a8ctl} sidecar-list"]
        return _block("Try", lines)
    page = f"http://localhost:{gateway}/{PAGE[demo]}"
    first = f"{page}   in a browser" if demo is Demo.BOOKINFO else f"curl {page}"
    lines = [first]
    for name in RULES[demo]:
        path = folder(demo) / "rules" / f"{name}.yaml"
        lines += [f"# {_about(path)}", f"{a8ctl} rule-create -f {shlex.quote(_short(path))}"]
    return _block("Try", [*lines, "# Back to no rules at all.", f"{a8ctl} rule-delete --all"])


def _block(title: str, lines: Sequence[str]) -> str:
    return "\n".join([f"{title}:", *(f"  {line}" for line in lines), "Ctrl-C ends everything."])


def _about(path: Path) -> str:
    """The first sentence of the comment at the head of a file."""
    words: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        words += line.lstrip("#").split()
    text = " ".join(words)
    sentence = re.split(r"(?<=[.?!])\s", text, maxsplit=1)[0]
    return sentence if len(sentence) <= COMMENT_WIDTH else sentence[: COMMENT_WIDTH - 1] + "…"


def _short(path: Path) -> str:
    """Relative to where the user stands, if it is below."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
