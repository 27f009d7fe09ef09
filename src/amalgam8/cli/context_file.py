"""The file behind names for meshes: ``a8/config.yaml`` in ``$XDG_CONFIG_HOME`` (``~/.config``).

It belongs to its user alone (0600): one that others could read and that holds tokens is refused.
"""

import os
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from amalgam8.cli import show
from amalgam8.model.errors import A8Error, InvalidSetting

SIZE_LIMIT = 1024 * 1024

MEMBERS = (
    "controller_url",
    "controller_token",
    "registry_url",
    "registry_token",
    "ca_cert",
    "client_cert",
    "client_key",
)
"""What a context may say; in the file ``-`` and ``_`` are the same."""

PATHS = ("ca_cert", "client_cert", "client_key")
SECRETS = ("controller_token", "registry_token")

Context = Mapping[str, str]


class Contexts(msgspec.Struct, frozen=True):
    """All contexts by name; ``current`` is the one in use, empty: none."""

    current: str = ""
    contexts: dict[str, dict[str, str]] = {}


class NoSuchContext(A8Error):
    """A name that stands for no mesh."""

    code = "no_such_context"


def path() -> Path:
    """Where the file is."""
    base = os.environ.get("XDG_CONFIG_HOME", "")
    # The specification of these folders: a relative path is to be ignored.
    folder = Path(base) if base.startswith("/") else Path("~/.config").expanduser()
    return folder / "a8" / "config.yaml"


def chosen(name: str, found: Contexts | None = None) -> Context:
    """What the context of this name says, or of the one in use where the name is empty.

    Raises:
        NoSuchContext: there is none of that name.
        InvalidSetting: the file cannot be used.
    """
    if found is None:
        found = read()
    name = name or found.current
    if not name:
        return {}
    known(found, name)
    return found.contexts[name]


def read() -> Contexts:
    """All contexts; raises InvalidSetting where the file cannot be used."""
    file = path()
    try:
        with file.open("rb") as opened:
            mode = os.fstat(opened.fileno()).st_mode
            data = opened.read(SIZE_LIMIT + 1)
    except FileNotFoundError:
        return Contexts()
    except OSError as error:
        raise InvalidSetting(f"cannot read {file}: {error.strerror}") from None
    if len(data) > SIZE_LIMIT:
        raise InvalidSetting(f"{file}: larger than the limit of {SIZE_LIMIT} bytes")
    found = _read(data, file)
    secret = any(context.get(member) for context in found.contexts.values() for member in SECRETS)
    if secret and stat.S_IMODE(mode) & 0o077:
        raise InvalidSetting(f"{file} holds tokens and others can read it: chmod 600 {file}")
    return found


def write(contexts: Contexts) -> None:
    """Put the file in place as a whole, for its user alone; raises InvalidSetting."""
    file = path()
    document = {
        **({"current": contexts.current} if contexts.current else {}),
        "contexts": {
            name: {member.replace("_", "-"): text for member, text in context.items()}
            for name, context in contexts.contexts.items()
        },
    }
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft, name = tempfile.mkstemp(dir=file.parent, prefix=".config-")  # 0600 from the start
        try:
            with os.fdopen(draft, "w", encoding="utf-8") as opened:
                opened.write(show.as_yaml(document) + "\n")
                opened.flush()
                os.fsync(opened.fileno())
            Path(name).replace(file)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise InvalidSetting(f"cannot write {file}: {error.strerror}") from None


def _read(data: bytes, file: Path) -> Contexts:
    from amalgam8.cli.documents import parse

    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise InvalidSetting(f"{file}: byte {error.start} is not UTF-8") from None
    document: Any = parse(text, str(file)) or {}
    if not isinstance(document, dict) or set(document) - {"current", "contexts"}:
        raise InvalidSetting(f"{file}: holds something else than current and contexts")
    listed = document.get("contexts") or {}
    if not isinstance(listed, dict):
        raise InvalidSetting(f"{file}: contexts: expected names with what stands under them")
    contexts = {name: _context(context, f"{file}: {name}") for name, context in listed.items()}
    current = document.get("current") or ""
    if not isinstance(current, str) or (current and current not in contexts):
        raise InvalidSetting(f"{file}: current: {current!r} is none of its contexts")
    return Contexts(current, contexts)


def _context(document: Any, where: str) -> dict[str, str]:
    if not isinstance(document, dict):
        raise InvalidSetting(f"{where}: expected members such as controller-url")
    found: dict[str, str] = {}
    for member, text in document.items():
        name = str(member).replace("-", "_")
        if name not in MEMBERS:
            allowed = ", ".join(each.replace("_", "-") for each in MEMBERS)
            raise InvalidSetting(f"{where}: {member}: unknown member; allowed are {allowed}")
        if not isinstance(text, str):
            raise InvalidSetting(f"{where}: {member}: expected text")
        found[name] = text
    return found


def known(found: Contexts, name: str) -> None:
    """Raises NoSuchContext where there is none of this name."""
    if name not in found.contexts:
        there = ", ".join(sorted(found.contexts)) or "none"
        raise NoSuchContext(f"there is no context {name}; there are: {there}")
