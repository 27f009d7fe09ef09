"""fault-list and fault-stop: what is broken on purpose just now, and the end of it.

A rule with other actions beside its faults keeps those: only delays and aborts are taken out of it. Refuses
to stop everything without being told so.
"""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from amalgam8.cli import completion, show, terms
from amalgam8.cli.connect import target_of
from amalgam8.cli.listings import Output, action_text, headers_of, read_listed, source_text
from amalgam8.cli.rules import Destinations
from amalgam8.model.errors import A8Error, InvalidSetting

if TYPE_CHECKING:
    from amalgam8.clients.controller import ControllerClient, How, Wrote

FAULTS = ("delay", "abort")
AT_ONCE = 500
"""Rules that one request deletes."""


class NoSuchFault(A8Error):
    """A fault that was named is not there."""

    code = "no_such_fault"


def faults(ctx: typer.Context, destinations: Destinations = None, output: Output = show.Form.TABLE) -> None:
    """List the rules that delay or abort requests, and when they end."""
    found = target_of(ctx).with_controller(
        lambda controller: controller.rules(destinations=destinations or ())
    )
    listed = [rule for rule in found.rules if is_fault(rule)]
    rows = []
    for rule, raw in sorted(
        zip(read_listed(listed), listed, strict=True), key=lambda row: row[0].destination
    ):
        actions = [action_text(action) for action in rule.actions or () if action.action in FAULTS]
        headers = [f"{name}:{pattern}" for name, pattern in headers_of(rule)]
        ends = str(raw.get("expires") or "never")
        rows.append(
            (rule.destination, source_text(rule.match), ", ".join(headers), ", ".join(actions), ends, rule.id)
        )
    columns = ("Destination", "Source", "Headers", "Faults", "Ends", "Rule ID")
    show.listing(output, columns, rows, listed)


@terms.writing()
def stop(
    ctx: typer.Context,
    ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="ID", help="Rules of these ids.", autocompletion=completion.rules),
    ] = None,
    everything: Annotated[bool, typer.Option("-a", "--all", help="All faults.")] = False,
    destinations: Destinations = None,
    *,
    how: "How",
) -> None:
    """Stop faults: by id, by destination, or all of them."""
    if everything == bool(ids or destinations):
        raise InvalidSetting("say which faults: ids, -d SERVICE, or --all")
    target = target_of(ctx)
    count, wrote = target.with_controller(
        lambda controller: _stop(controller, tuple(ids or ()), tuple(destinations or ()), how)
    )
    show.say(f"Stopped {count} fault rule{'s' if count != 1 else ''}.")
    if wrote is not None:
        terms.finish(wrote)


def is_fault(rule: dict[str, Any]) -> bool:
    return any(action.get("action") in FAULTS for action in rule.get("actions") or ())


async def _stop(
    controller: "ControllerClient", ids: tuple[str, ...], destinations: tuple[str, ...], how: "How"
) -> "tuple[int, Wrote | None]":
    """Stop what was found; returns how many, and the answer to the last write."""
    found = await controller.rules(destinations=destinations)
    chosen = [rule for rule in found.rules if is_fault(rule) and (not ids or rule["id"] in ids)]
    if unknown := sorted(set(ids) - {rule["id"] for rule in chosen}):
        raise NoSuchFault(f"there is no fault rule {', '.join(unknown)}")
    mixed = [rule for one in chosen if (rule := _without_faults(one))["actions"]]
    kept = {rule["id"] for rule in mixed}
    pure = [rule["id"] for rule in chosen if rule["id"] not in kept]
    wrote = await controller.update(mixed, how) if mixed else None
    for start in range(0, len(pure), AT_ONCE):
        wrote = await controller.delete(ids=pure[start : start + AT_ONCE], how=how)
    return len(chosen), wrote


def _without_faults(rule: dict[str, Any]) -> dict[str, Any]:
    kept = [action for action in rule.get("actions") or () if action.get("action") not in FAULTS]
    return {**rule, "actions": kept}
