"""Names for meshes: context-list, context-use, context-set and context-delete.

What flags and environment say wins; a token of a context goes to no other address than the context's own.
"""

import re
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from amalgam8.cli import completion, show
from amalgam8.cli.connect import target_from
from amalgam8.cli.context_file import MEMBERS, PATHS, SECRETS, Contexts, known, path, read, write
from amalgam8.model.errors import InvalidSetting

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
CONTEXTS_LIMIT = 1000

Name = Annotated[str, typer.Argument(metavar="NAME", help="The context.", autocompletion=completion.contexts)]


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
    known(found, name)
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
    known(found, name)
    rest = {other: context for other, context in found.contexts.items() if other != name}
    write(Contexts("" if found.current == name else found.current, rest))
    show.say(f"Forgot {name}.")
