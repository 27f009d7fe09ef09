"""history, history-show, rollback, confirm, export and import.

Going back is the controller's work; this side shows and asks. An export is one JSON file, written so that
a half-written one never stands under its name.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from amalgam8.cli import documents, show, terms
from amalgam8.cli.connect import target_of

if TYPE_CHECKING:
    from amalgam8.clients.controller import ControllerClient, Entry, How, Step

Output = Annotated[show.Form, typer.Option("-o", "--output", help="Form.")]
Revision = Annotated[int, typer.Argument(metavar="REVISION", min=0, help="The number of a revision.")]

PAGE = 500
EXPORT_LIMIT = 128 * 1024 * 1024


def history(
    ctx: typer.Context,
    limit: Annotated[int, typer.Option("-n", "--limit", metavar="N", min=1, help="How many.")] = 20,
    output: Output = show.Form.TABLE,
) -> None:
    """List what was changed, by whom and why: the newest first."""
    found = target_of(ctx).with_controller(lambda controller: _pages(controller, limit))
    rows = [
        (str(one.revision), one.at, one.cause, one.author, _counts(one), one.comment, one.request_id)
        for one in found
    ]
    columns = ("Revision", "At", "Cause", "Author", "Changes", "Comment", "Request")
    show.listing(output, columns, rows, found)


def history_show(ctx: typer.Context, revision: Revision, output: Output = show.Form.TABLE) -> None:
    """Show one revision with its difference, rule by rule."""
    found = target_of(ctx).with_controller(lambda controller: controller.revision(revision))
    if output is not show.Form.TABLE:
        show.listing(output, (), (), found)
        return
    about = f" of {', '.join(map(str, found.about))}" if found.about else ""
    show.say(show.clean(f"revision {found.revision} at {found.at}: {found.cause}{about}"))
    for name, text in (
        ("author", found.author),
        ("comment", found.comment),
        ("request", found.request_id),
        ("undone at", f"{found.confirm_by} unless confirmed" if found.confirm_by else ""),
    ):
        if text:
            show.say(show.clean(f"{name}: {text}"))
    show.say(difference(found.difference))


@terms.writing(careful=True)
def rollback(
    ctx: typer.Context,
    revision: Revision,
    *,
    how: "How",
) -> None:
    """Make the rules what they were at a revision, as a new one, all or nothing.

    Rules that have lapsed since stay gone.
    """
    wrote = target_of(ctx).with_controller(lambda controller: controller.rollback(revision, how))
    counts = f"{len(wrote.created)} created, {len(wrote.updated)} updated, {len(wrote.removed)} removed"
    show.say(f"Rolled back to revision {revision} as revision {wrote.revision}: {counts}.")
    terms.finish(wrote)


@terms.writing(waits=False)
def confirm(ctx: typer.Context, revision: Revision, *, how: "How") -> None:
    """Let a change stay that would be undone by itself."""
    wrote = target_of(ctx).with_controller(lambda controller: controller.confirm(revision, how))
    show.say(f"Confirmed revision {revision}, as revision {wrote.revision}.")


def export(
    ctx: typer.Context,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="Where to; - or nothing: standard output.")
    ] = "-",
) -> None:
    """Write all rules and their history to one file."""
    document = target_of(ctx).with_controller(lambda controller: controller.export())
    if file == "-":
        show.say(document.decode())
        return
    path = Path(file)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_bytes(document + b"\n")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    terms.note(f"written to {file}")


def restore(
    ctx: typer.Context, file: Annotated[str, typer.Argument(metavar="FILE", help="What export wrote.")]
) -> None:
    """Give the rules and the history of an export to a controller that has none."""
    document = documents.read_file(file, EXPORT_LIMIT).encode()
    target_of(ctx).with_controller(lambda controller: controller.restore(document))
    show.say("Imported.")


def difference(steps: "tuple[Step, ...]") -> str:
    """Lines such as ``~ rule (reviews): priority, route`` with the values below; for people."""
    if not steps:
        return "nothing differs"
    lines: list[str] = []
    for step in steps:
        sign = {"create": "+", "update": "~", "remove": "-"}.get(step.change, "?")
        names = f": {', '.join(step.members)}" if step.members else ""
        lines.append(_painted(sign, f"{sign} {step.id} ({step.destination}){names}"))
        for mark, rule in (("-", step.before), ("+", step.after)):
            lines += [_painted(mark, f"    {mark} {line}") for line in _shown(rule, step.members)]
    return "\n".join(lines)


def _painted(sign: str, text: str) -> str:
    colour = {"+": "green", "-": "red"}.get(sign, "yellow")
    return show.painted(show.coloured(text, colour))


def _shown(rule: dict[str, Any] | None, members: tuple[str, ...]) -> list[str]:
    if rule is None:
        return []
    said = {name: value for name, value in rule.items() if not members or name in members}
    said = {name: value for name, value in said.items() if name not in ("id", "created", "author")}
    return [show.clean(line) for line in show.as_yaml(said).splitlines()] if said else []


def _counts(one: "Entry") -> str:
    parts = (("+", one.created), ("~", one.updated), ("-", one.removed))
    found = [f"{sign}{ids[0] if len(ids) == 1 else len(ids)}" for sign, ids in parts if ids]
    return " ".join([*found, *(f"({number})" for number in one.about)])


async def _pages(controller: "ControllerClient", limit: int) -> "list[Entry]":
    found: list[Entry] = []
    before: int | None = None
    while len(found) < limit:
        page = await controller.history(before=before, limit=min(limit - len(found), PAGE))
        found += page.revisions
        before = page.next
        if before is None:
            break
    return found
