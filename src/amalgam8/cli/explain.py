"""explain: what happens to a call, and why; now, or if other rules were there.

The controller explains, from the parts that the caller's sidecar has; this side asks and shows. With
--compare it asks twice, and once more where somebody wrote in between.
"""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from amalgam8.cli import completion, show, terms
from amalgam8.cli.connect import target_of
from amalgam8.model.errors import A8Error, InvalidInput, InvalidSetting

if TYPE_CHECKING:
    from amalgam8.clients.controller import ControllerClient

ATTEMPTS = 5
"""Pairs of questions, until both are answered at one revision."""


class RulesMove(A8Error):
    """The rules do not stand still long enough for a comparison."""

    code = "rules_move"


def explain(
    ctx: typer.Context,
    caller: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="NAME[:TAGS]",
            help="Who calls, as its A8_SERVICE has it.",
            autocompletion=completion.services,
        ),
    ] = "",
    destination: Annotated[
        str,
        typer.Option("--to", metavar="SERVICE", help="Whom it calls.", autocompletion=completion.services),
    ] = "",
    path: Annotated[
        str,
        typer.Option(
            "--path", metavar="PATH", help="The path inside the service; without --to, the whole path."
        ),
    ] = "",
    method: Annotated[str, typer.Option("-X", "--method", metavar="METHOD", help="The method.")] = "GET",
    headers: Annotated[
        list[str] | None,
        typer.Option("-H", "--header", metavar="'NAME: VALUE'", help="A header of the call. Repeatable."),
    ] = None,
    with_files: Annotated[
        list[str] | None,
        typer.Option(
            "--with",
            metavar="PATH",
            help="As if these rules were there too: a file, a folder, or -. Repeatable.",
        ),
    ] = None,
    without: Annotated[
        list[str] | None,
        typer.Option(
            "--without",
            metavar="ID",
            help="As if this rule were not there. Repeatable.",
            autocompletion=completion.rules,
        ),
    ] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Show what happens now beside what would happen then.")
    ] = False,
    output: Annotated[show.Form, typer.Option("-o", "--output", help="Form.")] = show.Form.TABLE,
) -> None:
    """Explain what happens to a call, and of each rule why it acts or does not.

    Nothing is written: --with and --without only suppose.
    """
    question = asked(caller, destination, path, method, headers or [])
    supposed = {**question, **_supposing(with_files or [], without or [])}
    if compare and supposed == question:
        raise InvalidSetting("--compare needs --with or --without: say what is to be compared with now")
    target = target_of(ctx)
    if compare:
        now, then = target.with_controller(lambda controller: both(controller, question, supposed))
        _show(output, now, then)
    else:
        _show(output, target.with_controller(lambda controller: controller.explain(supposed)))


def asked(caller: str, destination: str, path: str, method: str, headers: list[str]) -> dict[str, Any]:
    """The question that these flags stand for; raises InvalidSetting."""
    from amalgam8.routing.decide import joined

    if not destination and not path:
        raise InvalidSetting("say which call: --to SERVICE, or --path with a whole path")
    name, _, tags = caller.partition(":")
    question: dict[str, Any] = {
        "source": {"name": name.strip(), "tags": [tag.strip() for tag in tags.split(",") if tag.strip()]},
        "method": method,
        "headers": joined(_pair(text) for text in headers),
    }
    question |= {"destination": destination} if destination else {}
    question |= {"path": path} if path else {}
    return question


def _pair(text: str) -> tuple[str, str]:
    key, sign, value = text.partition(":")
    if not sign or not key.strip():
        raise InvalidSetting(f"--header: {text!r} is not allowed; allowed: 'NAME: VALUE'")
    return key.strip(), value.strip()


def _supposing(files: list[str], without: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if files:
        from amalgam8.cli import documents
        from amalgam8.cli.declare import files_at

        rules = [
            rule
            for given in files
            for file in files_at(given)
            for rule in documents.read_rules(file, quiet=True)
        ]
        if any(not isinstance(rule, dict) for rule in rules):
            raise InvalidInput("--with: a rule must be an object")
        found["with"] = rules
    if without:
        found["without"] = without
    return found


async def both(
    controller: "ControllerClient", question: dict[str, Any], supposed: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Both answers, at one revision."""
    for _ in range(ATTEMPTS):
        now, then = await controller.explain(question), await controller.explain(supposed)
        if now.get("revision") == then.get("revision"):
            return now, then
    raise RulesMove("the rules change all the time; try again")


def _show(output: show.Form, now: dict[str, Any], then: dict[str, Any] | None = None) -> None:
    if output is not show.Form.TABLE:
        whole = now if then is None else {"now": now, "then": then}
        show.document(whole, show.Document(output.value))
        return
    from amalgam8.cli.explained import VERDICT_COLUMNS, facets, read, side_by_side, verdict_rows

    found = [read(each) for each in (now, then) if each is not None]
    columns = ("", *(("What happens",) if then is None else ("Now", "Then")))
    show.say(show.table(columns, side_by_side(*(facets(each) for each in found))))
    show.say(show.table(VERDICT_COLUMNS, verdict_rows(found[-1].rules)))
    for note in found[0].notes:
        terms.note(note)
