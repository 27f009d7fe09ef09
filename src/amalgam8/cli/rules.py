"""rule-create, rule-get, rule-update, rule-delete and rule-status.

Rule documents go to the controller and come back as they are: this side checks their syntax, the
controller their sense.
"""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from amalgam8.cli import completion, show, terms
from amalgam8.cli.connect import target_of
from amalgam8.model.errors import A8Error, InvalidSetting

if TYPE_CHECKING:
    from amalgam8.clients.controller import How

File = Annotated[
    str,
    typer.Option(
        "-f", "--file", metavar="FILE", help="A file of JSON or YAML; - or nothing: standard input."
    ),
]
Redirection = Annotated[
    bool, typer.Option("-r", "--redirection", help="Show no prompt when reading standard input.")
]
Ids = Annotated[
    list[str] | None,
    typer.Option(
        "-i", "--id", metavar="ID", help="Rules of this id. Repeatable.", autocompletion=completion.rules
    ),
]
Tags = Annotated[
    list[str] | None,
    typer.Option("-t", "--tag", metavar="TAG", help="Rules that carry this tag; all of them if repeated."),
]
Destinations = Annotated[
    list[str] | None,
    typer.Option(
        "-d",
        "--destination",
        metavar="SERVICE",
        help="Rules for this service. Repeatable.",
        autocompletion=completion.services,
    ),
]


class NotConfirmed(A8Error):
    """The user was asked and said no."""

    code = "not_confirmed"


@terms.writing(careful=True)
def create(
    ctx: typer.Context,
    file: File = "",
    redirection: Redirection = False,
    *,
    how: "How",
) -> None:
    """Create rules, all or none, and print their ids.

    The document is {"rules": [...]}, a bare list, or a single rule.
    """
    from amalgam8.cli import documents  # its YAML is for those who write

    rules = documents.read_rules(file, quiet=redirection)
    wrote = target_of(ctx).with_controller(lambda controller: controller.create(rules, how))
    show.say(show.as_json({"ids": wrote.ids}))
    terms.finish(wrote)


@terms.writing(careful=True)
def update(
    ctx: typer.Context,
    file: File = "",
    redirection: Redirection = False,
    *,
    how: "How",
) -> None:
    """Replace whole rules by their ids, all or none.

    What rule-get prints can be edited and given back.
    """
    from amalgam8.cli import documents  # its YAML is for those who write

    rules = documents.read_rules(file, quiet=redirection)
    wrote = target_of(ctx).with_controller(lambda controller: controller.update(rules, how))
    show.say(f"Updated {len(rules)} rule{'s' if len(rules) != 1 else ''}.")
    terms.finish(wrote)


def status(
    ctx: typer.Context,
    identity: Annotated[str, typer.Argument(metavar="ID", help="The rule.", autocompletion=completion.rules)],
    output: Annotated[show.Form, typer.Option("-o", "--output", help="Form.")] = show.Form.TABLE,
) -> None:
    """Show in which sidecars a rule is applied, by what their proxies confirmed.

    Only sidecars that the rule concerns are listed.
    """
    found = target_of(ctx).with_controller(lambda controller: controller.status(identity))
    rows = [
        (one.service, ",".join(one.tags), one.state, one.since, one.reason, one.id) for one in found.sidecars
    ]
    columns = ("Service", "Tags", "State", "Since", "Reason", "Id")
    show.listing(output, columns, rows, found)
    if found.note:
        terms.note(found.note)


def get(
    ctx: typer.Context,
    everything: Annotated[
        bool, typer.Option("-a", "--all", help="All rules; so it is without a filter.")
    ] = False,
    ids: Ids = None,
    tags: Tags = None,
    destinations: Destinations = None,
    output: Annotated[show.Document, typer.Option("-o", "--output", help="Form.")] = show.Document.YAML,
) -> None:
    """Print rules, in the order in which they are tried, and the revision.

    Filters of different kinds must all hold.
    """
    _one_or_the_other(everything, ids, tags, destinations)
    found = target_of(ctx).with_controller(
        lambda controller: controller.rules(ids=ids or (), tags=tags or (), destinations=destinations or ())
    )
    show.document(found, output)


@terms.writing(careful=True)
def delete(
    ctx: typer.Context,
    given: Annotated[
        list[str] | None,
        typer.Argument(metavar="ID", help="Rules of these ids.", autocompletion=completion.rules),
    ] = None,
    everything: Annotated[bool, typer.Option("-a", "--all", help="All rules; asks first.")] = False,
    ids: Ids = None,
    tags: Tags = None,
    destinations: Destinations = None,
    force: Annotated[bool, typer.Option("-f", "--force", help="Do not ask.")] = False,
    *,
    how: "How",
) -> None:
    """Delete rules by id, tag or destination, or all of them.

    Filters of different kinds must all hold.
    """
    ids = [*(given or ()), *(ids or ())]
    _one_or_the_other(everything, ids, tags, destinations)
    if not (everything or ids or tags or destinations):
        sys.stderr.write(ctx.get_help() + "\n")
        raise typer.Exit(2)
    if everything and not force and not confirmed("Delete all rules?"):
        raise NotConfirmed("nothing was deleted")
    wrote = target_of(ctx).with_controller(
        lambda controller: controller.delete(
            ids=ids, tags=tags or (), destinations=destinations or (), how=how
        )
    )
    show.say("Deleted.")
    terms.finish(wrote)


def _one_or_the_other(everything: bool, *filters: list[str] | None) -> None:
    if everything and any(filters):
        raise InvalidSetting("-a means all rules: leave out the filters, or -a")


def confirmed(question: str) -> bool:
    """Ask; whether the answer was yes."""
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
