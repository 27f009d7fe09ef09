"""apply and diff: rules as files, and the controller's rules made to match them.

A folder stands for all rule documents below it. Refuses an id that two files claim, and files without an
``id`` for every rule, before anything is sent; a folder without documents is a mistake, not an empty set.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from amalgam8.cli import documents, show, terms
from amalgam8.cli.connect import target_of
from amalgam8.cli.history import difference
from amalgam8.model.errors import A8Error, InvalidInput

if TYPE_CHECKING:
    from amalgam8.clients.controller import How, Wrote

SUFFIXES = (".yaml", ".yml", ".json")

Files = Annotated[
    list[str],
    typer.Option("-f", "--file", metavar="PATH", help="A file, a folder of files, or -. Repeatable."),
]
Prune = Annotated[bool, typer.Option("--prune", help="Remove rules that the files do not mention.")]
Tags = Annotated[
    list[str] | None,
    typer.Option("-t", "--tag", metavar="TAG", help="Only rules that carry this tag count. Repeatable."),
]
Output = Annotated[show.Document | None, typer.Option("-o", "--output", help="Form, in place of text.")]


class Differs(A8Error):
    """The answer of diff, where it is no."""

    code = "differs"


@terms.writing(careful=True)
def apply(
    ctx: typer.Context,
    files: Files,
    prune: Prune = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would happen, and to whom.")] = False,
    tags: Tags = None,
    output: Output = None,
    *,
    how: "How",
) -> None:
    """Make the controller's rules what the files say, as one revision.

    Rules are created and replaced by their ids; with --prune, what the files do not mention is removed. With
    --tag all this is about the rules that carry the tag, and the others stay.
    """
    rules = read(files)
    if dry_run:
        how = msgspec.structs.replace(how, wait=None)
    wrote = target_of(ctx).with_controller(
        lambda controller: controller.apply(rules, tags=tags or (), prune=prune, dry_run=dry_run, how=how)
    )
    _say(wrote, output, dry_run)
    terms.finish(wrote)


def diff(
    ctx: typer.Context, files: Files, prune: Prune = False, tags: Tags = None, output: Output = None
) -> None:
    """Compare files with the controller's rules; exit code 1 if they differ.

    Shows what apply would do, with the same flags.
    """
    rules = read(files)
    wrote = target_of(ctx).with_controller(
        lambda controller: controller.apply(rules, tags=tags or (), prune=prune, dry_run=True)
    )
    _say(wrote, output, dry_run=True)
    if wrote.difference:
        count = len(wrote.difference)
        raise Differs(f"{count} rule{'s differ' if count != 1 else ' differs'}")


def read(paths: Sequence[str]) -> list[Any]:
    """The rules of all files, with an id each and no id twice.

    Raises:
        InvalidInput: one sentence that names the file.
    """
    found: list[Any] = []
    owners: dict[str, str] = {}
    for path in (file for given in paths for file in files_at(given)):
        for i, rule in enumerate(documents.read_rules(path, quiet=True)):
            identity = rule.get("id") if isinstance(rule, dict) else None
            if not identity or not isinstance(identity, str):
                raise InvalidInput(f"{path}: rule {i + 1} has no id, and only an id tells which rule it is")
            if identity in owners:
                raise InvalidInput(f"{path}: the id {identity} is in {owners[identity]} too")
            owners[identity] = path
            found.append(rule)
    return found


def files_at(given: str) -> list[str]:
    """The files that a path stands for, in the order of their names."""
    path = Path(given)
    if given == "-" or not path.is_dir():
        return [given]
    found = sorted(
        str(file)
        for file in path.rglob("*")
        if file.suffix in SUFFIXES and file.is_file() and not file.name.startswith(".")
    )
    if not found:
        raise InvalidInput(f"{given}: holds no {', '.join(SUFFIXES)} file")
    return found


def _say(wrote: "Wrote", output: show.Document | None, dry_run: bool) -> None:
    if output is not None:
        shown = {"revision": wrote.revision, "difference": wrote.difference}
        show.document({**shown, "sidecars": wrote.sidecars} if dry_run else shown, output)
        return
    show.say(difference(wrote.difference))
    if dry_run:
        for one in wrote.sidecars:
            tags = f":{','.join(one.tags)}" if one.tags else ""
            show.say(show.clean(f"would touch {one.service}{tags} ({', '.join(one.destinations)}) {one.id}"))
    elif wrote.difference:
        show.say(f"Applied as revision {wrote.revision}.")
