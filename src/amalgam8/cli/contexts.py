"""Names for meshes: context-list, context-use, context-set and context-delete, and the file behind them.

The file is ``a8/config.yaml`` in ``$XDG_CONFIG_HOME`` (``~/.config``), and belongs to its user alone (0600):
one that others could read and that holds tokens is refused. What flags and environment say wins; a token
of a context goes to no other address than the context's own.
"""

import os
import re
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from amalgam8.cli import completion, show
from amalgam8.model.errors import A8Error, InvalidSetting

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
SIZE_LIMIT = 1024 * 1024
CONTEXTS_LIMIT = 1000

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
Name = Annotated[str, typer.Argument(metavar="NAME", help="The context.", autocompletion=completion.contexts)]


class Contexts(msgspec.Struct, frozen=True):
    """All contexts by name; ``current`` is the one in use, empty: none."""

    current: str = ""
    contexts: dict[str, dict[str, str]] = {}


class NoSuchContext(A8Error):
    """A name that stands for no mesh."""

    code = "no_such_context"


def list_all(
    output: Annotated[show.Form, typer.Option("-o", "--output", help="Form.")] = show.Form.TABLE,
) -> None:
    """List the meshes that have a name, and which is in use.

    Tokens are not shown.
    """
    found = read()
    listed = [
        {
            "name": name,
            "current": name == found.current,
            "controller_url": context.get("controller_url", ""),
            "registry_url": context.get("registry_url", ""),
            "tokens": [secret for secret in SECRETS if context.get(secret)],
            "ca_cert": context.get("ca_cert", ""),
        }
        for name, context in sorted(found.contexts.items())
    ]
    rows = [
        (
            "*" if row["current"] else "",
            str(row["name"]),
            str(row["controller_url"]),
            str(row["registry_url"]),
            "(set)" if row["tokens"] else "",
            str(row["ca_cert"]),
        )
        for row in listed
    ]
    show.listing(output, ("Current", "Name", "Controller", "Registry", "Tokens", "CA"), rows, listed)


def use(name: Name) -> None:
    """Choose the mesh that commands go to from now on.

    --context chooses another one for a single command.
    """
    found = read()
    _known(found, name)
    write(msgspec.structs.replace(found, current=name))
    show.say(f"Commands go to {name} from now on.")


def put(
    ctx: typer.Context,
    name: Name,
    from_environment: Annotated[
        bool, typer.Option("--from-environment", help="Keep what the environment says too, tokens included.")
    ] = False,
) -> None:
    """Give a mesh a name, or change what stands under it.

    The global flags of this command are what is kept. The first context is the one in use.
    """
    if not NAME.fullmatch(name):
        raise InvalidSetting(f"{name!r} is no name for a context; letters, digits and . _ - are allowed")
    root = ctx.find_root()
    sources = {"COMMANDLINE"} | ({"ENVIRONMENT"} if from_environment else set())
    given = {
        member: str(root.params[member])
        for member in MEMBERS
        if getattr(root.get_parameter_source(member), "name", "") in sources
    }
    if not given:
        raise InvalidSetting("nothing to keep: give --controller-url, --registry-url, tokens or --ca-cert")
    from amalgam8.cli.main import target_from

    found = read()
    target_from(given, Contexts()).check()
    paths = {
        member: str(Path(text).expanduser().absolute()) for member, text in given.items() if member in PATHS
    }
    context = {**found.contexts.get(name, {}), **given, **paths}
    kept = {member: text for member, text in context.items() if text}
    if name not in found.contexts and len(found.contexts) >= CONTEXTS_LIMIT:
        raise InvalidSetting(f"there are {CONTEXTS_LIMIT} contexts, and no room for more")
    write(Contexts(found.current or name, {**found.contexts, name: kept}))
    show.say(f"Kept {name} in {path()}.")


def delete(name: Name) -> None:
    """Forget the mesh of a name.

    If it was in use, none is in use afterwards.
    """
    found = read()
    _known(found, name)
    rest = {other: context for other, context in found.contexts.items() if other != name}
    write(Contexts("" if found.current == name else found.current, rest))
    show.say(f"Forgot {name}.")


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
    _known(found, name)
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


def _known(found: Contexts, name: str) -> None:
    if name not in found.contexts:
        there = ", ".join(sorted(found.contexts)) or "none"
        raise NoSuchContext(f"there is no context {name}; there are: {there}")
