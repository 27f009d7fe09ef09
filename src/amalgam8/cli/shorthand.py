"""route-set, route-delete, action-add, action-clear and rule-clear: rules in one line.

The notation is that of the original command line: ``v2(weight=0.1)``, ``v2(user="jason")``,
``v2(header="Foo:bar")``, ``v1(0.5->delay=7)``. A user or cookie becomes a pattern of the header Cookie.
Refuses what it cannot read, with the notation that it could.
"""

import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from amalgam8.cli import completion, show, terms
from amalgam8.cli.connect import target_of
from amalgam8.cli.rules import NotConfirmed, confirmed
from amalgam8.model.errors import InvalidSetting

if TYPE_CHECKING:
    from amalgam8.clients.controller import ControllerClient, How, Wrote

AT_ONCE = 500
"""Rules that one request deletes."""

FIRST_PRIORITY = 10
"""Of an action rule; another one comes this much above the highest that is there."""

Service = Annotated[
    str,
    typer.Argument(metavar="SERVICE", help="The destination.", autocompletion=completion.services),
]
Source = Annotated[
    str, typer.Option("--source", metavar="NAME[:TAGS]", help="Only calls from this service count.")
]

_SELECTOR = re.compile(
    r"\s*(?P<version>[^()]+?)\s*\(\s*(?P<key>weight|user|header)\s*=\s*(?P<value>.+?)\s*\)\s*"
)
_ACTION = re.compile(
    r"\s*(?P<version>[^()]*?)\s*\(\s*(?:(?P<chance>[0-9.]+)\s*->)?\s*(?P<kind>delay|abort)\s*=\s*(?P<value>-?[0-9.]+)\s*\)\s*"
)


@terms.writing()
def route_set(
    ctx: typer.Context,
    service: Service,
    default: Annotated[str, typer.Option("--default", metavar="TAGS", help="The version for all others.")],
    selectors: Annotated[
        list[str] | None,
        typer.Option(
            "--selector",
            metavar="SELECTOR",
            help='TAGS(weight=W), TAGS(user="U") or TAGS(header="H:PATTERN"); the first that fits counts.',
        ),
    ] = None,
    source: Source = "",
    *,
    how: "How",
) -> None:
    """Replace all route rules of a service by a default version and what selects others."""
    rules = route_rules(service, default, selectors or [], source)
    wrote = target_of(ctx).with_controller(
        lambda controller: controller.replace_for("routes", service, rules, how)
    )
    show.say(f"Set the routes of {show.clean(service)}.")
    terms.finish(wrote)


@terms.writing()
def route_delete(
    ctx: typer.Context,
    service: Service,
    *,
    how: "How",
) -> None:
    """Delete all route rules of a service."""
    wrote = target_of(ctx).with_controller(lambda controller: controller.delete_for("routes", service, how))
    show.say(f"Deleted the routes of {show.clean(service)}.")
    terms.finish(wrote)


@terms.writing()
def action_add(
    ctx: typer.Context,
    destination: Annotated[
        str,
        typer.Option(
            "--destination",
            "-d",
            metavar="SERVICE",
            help="The service that is called.",
            autocompletion=completion.services,
        ),
    ],
    actions: Annotated[
        list[str],
        typer.Option(
            "--action", metavar="ACTION", help="TAGS(P->delay=SECONDS) or TAGS(P->abort=CODE). Repeatable."
        ),
    ],
    source: Source = "",
    headers: Annotated[
        list[str] | None,
        typer.Option("--header", metavar="NAME:PATTERN", help="Only with this header. Repeatable."),
    ] = None,
    cookies: Annotated[
        list[str] | None,
        typer.Option("--cookie", metavar="NAME=VALUE", help="Only with this cookie. Repeatable."),
    ] = None,
    priority: Annotated[
        int | None, typer.Option("--priority", metavar="N", help="Default: above the others.")
    ] = None,
    *,
    how: "How",
) -> None:
    """Add a rule that delays or aborts calls, above the other action rules of the service.

    One of --source, --header and --cookie says which calls.
    """
    rule = action_rule(destination, actions, source, headers or [], cookies or [])
    wrote = target_of(ctx).with_controller(lambda controller: _add(controller, rule, priority, how))
    show.say(f"Added an action rule for {show.clean(destination)}: {show.clean(wrote.ids[-1])}")
    terms.finish(wrote)


@terms.writing()
def action_clear(
    ctx: typer.Context,
    service: Service,
    *,
    how: "How",
) -> None:
    """Delete all action rules of a service."""
    wrote = target_of(ctx).with_controller(lambda controller: controller.delete_for("actions", service, how))
    show.say(f"Deleted the action rules of {show.clean(service)}.")
    terms.finish(wrote)


@terms.writing()
def rule_clear(
    ctx: typer.Context,
    force: Annotated[bool, typer.Option("-f", "--force", help="Do not ask.")] = False,
    *,
    how: "How",
) -> None:
    """Delete all action rules of all services; asks first."""
    if not force and not confirmed("Delete the action rules of all services?"):
        raise NotConfirmed("nothing was deleted")
    count, wrote = target_of(ctx).with_controller(lambda controller: _clear(controller, how))
    show.say(f"Deleted {count} action rule{'s' if count != 1 else ''}.")
    if wrote is not None:
        terms.finish(wrote)


def route_rules(service: str, default: str, selectors: list[str], source: str) -> list[dict[str, Any]]:
    """The rules of route-set, the lowest priority first.

    With a source, other callers get the default version. Raises InvalidSetting.
    """
    if not default.strip():
        raise InvalidSetting("--default: name a version, such as v1")
    weighted: list[dict[str, Any]] = []
    conditions: list[tuple[list[str], dict[str, str]]] = []
    for text in selectors:
        version, key, value = _selector(text)
        if key == "weight":
            weighted.append({"tags": version, "weight": _number("--selector", text, value)})
        else:
            conditions.append(
                (version, {"Cookie": f".*?user={value}"} if key == "user" else _pair(text, value))
            )
    plain = {"tags": _tags(default)}
    found: list[tuple[dict[str, str] | None, list[dict[str, Any]]]] = [(None, [*weighted, plain])]
    if source:
        found = [(None, [plain]), ({}, [*weighted, plain])]
    # The first selector gets the highest priority.
    found += [(headers, [{"tags": version}]) for version, headers in reversed(conditions)]
    rules = []
    for priority, (match, backends) in enumerate(found, 1):
        rule = {"destination": service, "priority": priority, "route": {"backends": backends}}
        if match is not None:
            rule["match"] = _match(source, match)
        rules.append(rule)
    return rules


def action_rule(
    destination: str, actions: list[str], source: str, headers: list[str], cookies: list[str]
) -> dict[str, Any]:
    """The rule of action-add, without its priority; raises InvalidSetting."""
    if not (source or headers or cookies):
        raise InvalidSetting("say which calls: --source, --header or --cookie")
    found = dict[str, str]()
    for text in headers:
        found |= _pair(text, text)
    patterns = []
    for text in cookies:
        name, sign, value = text.partition("=")
        if not (name.strip() and sign):
            raise InvalidSetting(f"--cookie: {text!r} is not allowed; allowed: NAME=VALUE")
        patterns.append(f".*?{name.strip()}={value.strip()}")
    if len(patterns) > 1:
        raise InvalidSetting("--cookie: one cookie can be asked for; write a pattern for more with --header")
    if patterns:
        found["Cookie"] = patterns[0]
    return {
        "destination": destination,
        "match": _match(source, found),
        "actions": [_action(text) for text in actions],
    }


async def _add(
    controller: "ControllerClient", rule: dict[str, Any], priority: int | None, how: "How"
) -> "Wrote":
    there = [
        one for one in (await controller.rules(destinations=[rule["destination"]])).rules if "actions" in one
    ]
    highest = max((one.get("priority", 0) for one in there), default=0)
    above = FIRST_PRIORITY if highest < FIRST_PRIORITY else highest + FIRST_PRIORITY
    chosen = above if priority is None else priority
    return await controller.create([{**rule, "priority": chosen}], how)


async def _clear(controller: "ControllerClient", how: "How") -> "tuple[int, Wrote | None]":
    found = [rule["id"] for rules in (await controller.actions()).values() for rule in rules]
    wrote = None
    for start in range(0, len(found), AT_ONCE):
        wrote = await controller.delete(ids=found[start : start + AT_ONCE], how=how)
    return len(found), wrote


def _selector(text: str) -> tuple[list[str], str, str]:
    match = _SELECTOR.fullmatch(text)
    if match is None:
        raise InvalidSetting(
            f"--selector: {text!r} is not allowed;"
            ' allowed: TAGS(weight=W), TAGS(user="U"), TAGS(header="H:PATTERN")'
        )
    return _tags(match["version"]), match["key"], match["value"].strip('"')


def _action(text: str) -> dict[str, Any]:
    match = _ACTION.fullmatch(text)
    if match is None:
        raise InvalidSetting(
            f"--action: {text!r} is not allowed; allowed: TAGS(P->delay=SECONDS), TAGS(P->abort=CODE)"
        )
    found: dict[str, Any] = {"action": match["kind"]}
    value = _number("--action", text, match["value"])
    if match["kind"] == "delay":
        found["duration"] = value
    else:
        if not value.is_integer():
            raise InvalidSetting(f"--action: {text!r} is not allowed; a code is a whole number")
        found["return_code"] = int(value)
    if match["chance"]:
        found["probability"] = _number("--action", text, match["chance"])
    if match["version"] and match["version"] != "-untagged-":
        found["tags"] = _tags(match["version"])
    return found


def _pair(text: str, value: str) -> dict[str, str]:
    name, sign, pattern = value.partition(":")
    if not (name.strip() and sign and pattern):
        raise InvalidSetting(f"{text!r} is not allowed; a header is written NAME:PATTERN")
    return {name.strip(): pattern}


def _match(source: str, headers: dict[str, str]) -> dict[str, Any]:
    name, _, tags = source.partition(":")
    found: dict[str, Any] = {}
    if source:
        found["source"] = {"name": name, **({"tags": _tags(tags)} if tags else {})}
    return {**found, **({"headers": headers} if headers else {})}


def _number(flag: str, text: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise InvalidSetting(f"{flag}: {text!r} is not allowed; {value!r} is no number") from None


def _tags(text: str) -> list[str]:
    return [tag.strip() for tag in text.split(",") if tag.strip()]
