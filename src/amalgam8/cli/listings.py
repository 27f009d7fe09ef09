"""route-list, action-list, service-list, sidecar-list and info.

The texts of versions, selectors and actions are those of the original command line. Rows are sorted by
their first column; rules of one service stand in the order in which they are tried.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import msgspec
import typer

from amalgam8.cli import completion, show
from amalgam8.cli.connect import target_of
from amalgam8.cli.rules import Destinations, Ids, Tags
from amalgam8.model.errors import BadAnswer

Output = Annotated[show.Form, typer.Option("-o", "--output", help="Form.")]
Json = Annotated[bool, typer.Option("--json", help="The same as -o json.")]

UNTAGGED = "-untagged-"
STATES = {"applied": "green", "pending": "yellow", "rejected": "red", "gone": "grey"}
_USER = ".*?user="


class _Source(msgspec.Struct, frozen=True):
    name: str = ""
    tags: tuple[str, ...] = ()


class _Match(msgspec.Struct, frozen=True):
    source: _Source | None = None
    headers: dict[str, str] = {}


class _Backend(msgspec.Struct, frozen=True):
    name: str = ""
    tags: tuple[str, ...] = ()
    weight: float = 0.0


class _Route(msgspec.Struct, frozen=True):
    backends: tuple[_Backend, ...] = ()


class _Action(msgspec.Struct, frozen=True):
    action: str = ""
    duration: float = 0.0
    return_code: int = 0
    probability: float = 0.0
    tags: tuple[str, ...] | None = ()


class _Rule(msgspec.Struct, frozen=True):
    """What a listing shows of a rule; members of newer controllers do not matter here."""

    id: str = ""
    priority: int = 0
    destination: str = ""
    match: _Match | None = None
    route: _Route | None = None
    actions: tuple[_Action, ...] | None = None


def routes(
    ctx: typer.Context,
    services: Annotated[
        list[str] | None,
        typer.Option(
            "-s",
            "--service",
            metavar="SERVICE",
            help="Only this one. Repeatable.",
            autocompletion=completion.services,
        ),
    ] = None,
    output: Output = show.Form.TABLE,
    json: Json = False,
) -> None:
    """List the default version of each service that has route rules, and what selects the others."""
    found = target_of(ctx).with_controller(lambda controller: controller.routes())
    listed: list[dict[str, Any]] = []
    for service, rules in sorted(found.items()):
        if not services or service in services:
            default, selectors = _versions(service, read_listed(rules))
            listed.append({"service": service, "default": default, "selectors": selectors})
    rows = [(row["service"], row["default"], ", ".join(row["selectors"])) for row in listed]
    show.listing(_form(output, json), ("Service", "Default Version", "Version Selectors"), rows, listed)


def actions(
    ctx: typer.Context,
    ids: Ids = None,
    tags: Tags = None,
    destinations: Destinations = None,
    services: Annotated[
        list[str] | None, typer.Option("-s", "--service", metavar="SERVICE", help="The same as -d.")
    ] = None,
    output: Output = show.Form.TABLE,
    json: Json = False,
) -> None:
    """List the rules that act on requests: delays, aborts."""
    wanted = [*(destinations or ()), *(services or ())]
    found = target_of(ctx).with_controller(
        lambda controller: controller.rules(ids=ids or (), tags=tags or (), destinations=wanted)
    )
    rules = sorted(
        (rule for rule in read_listed(found.rules) if rule.actions), key=lambda rule: rule.destination
    )
    listed: list[dict[str, Any]] = [
        {
            "destination": rule.destination,
            "id": rule.id,
            "priority": rule.priority,
            "match": source_text(rule.match),
            "actions": [action_text(action) for action in rule.actions or ()],
            "headers": [f"{name}:{pattern}" for name, pattern in headers_of(rule)],
        }
        for rule in rules
    ]
    rows = [
        (
            row["destination"],
            row["match"],
            ", ".join(row["headers"]),
            str(row["priority"]),
            ", ".join(row["actions"]),
            row["id"],
        )
        for row in listed
    ]
    columns = ("Destination", "Source", "Headers", "Priority", "Actions", "Rule ID")
    show.listing(_form(output, json), columns, rows, listed)


def services(ctx: typer.Context, output: Output = show.Form.TABLE, json: Json = False) -> None:
    """List the services that have instances, and how many of each version."""
    found = target_of(ctx).with_registry(lambda registry: registry.instances())
    versions: dict[str, Counter[str]] = {}
    for instance in found:
        tags = ",".join(sorted(instance.tags)) or UNTAGGED
        versions.setdefault(instance.service_name, Counter())[tags] += 1
    listed: list[dict[str, Any]] = [
        {"service": service, "instances": [f"{tags}({count})" for tags, count in sorted(counts.items())]}
        for service, counts in sorted(versions.items())
    ]
    rows = [(row["service"], ", ".join(row["instances"])) for row in listed]
    show.listing(_form(output, json), ("Service", "Instances"), rows, listed)


def sidecars(ctx: typer.Context, output: Output = show.Form.TABLE, json: Json = False) -> None:
    """List the sidecars that the controller knows, and whether their proxies follow the newest rules."""
    found = sorted(
        target_of(ctx).with_controller(lambda controller: controller.sidecars()),
        key=lambda row: (row.service, row.tags, row.id),
    )
    rows = [
        (
            row.service,
            ",".join(row.tags),
            row.proxy,
            str(row.revision),
            show.coloured(row.state, STATES.get(row.state, "grey")),
            row.reason,
            f"{row.age:.0f}s",
            row.id,
        )
        for row in found
    ]
    columns = ("Service", "Tags", "Proxy", "Revision", "State", "Reason", "Age", "Id")
    show.listing(_form(output, json), columns, rows, found)


def info(ctx: typer.Context, output: Output = show.Form.TABLE, json: Json = False) -> None:
    """Show the settings in use, whether they came from flags, the environment or defaults."""
    target = target_of(ctx)
    values = {
        "A8_CONTROLLER_URL": target.controller_url,
        "A8_CONTROLLER_TOKEN": "(set)" if target.controller_token else "",
        "A8_REGISTRY_URL": target.registry_url,
        "A8_REGISTRY_TOKEN": "(set)" if target.registry_token else "",
        "A8_CA_CERT": target.ca_cert,
        "A8_DEBUG": "true" if target.debug else "false",
    }
    show.listing(_form(output, json), ("Env. Variable", "Value"), values.items(), values)


def source_text(match: _Match | None) -> str:
    """``name:tag,tag``, or nothing where any caller will do."""
    if match is None or match.source is None:
        return ""
    tags = ",".join(match.source.tags)
    return f"{match.source.name}:{tags}" if tags else match.source.name


def action_text(action: _Action) -> str:
    """``tags(probability->delay=seconds)``, ``tags(probability->abort=code)`` or ``tags(action)``."""
    tags = ",".join(action.tags or ())
    dice = f"{action.probability or 1:g}"
    if action.action == "delay":
        return f"{tags}({dice}->delay={action.duration:g})"
    if action.action == "abort":
        return f"{tags}({dice}->abort={action.return_code})"
    return f"{tags}({action.action})"


def _versions(service: str, rules: Iterable[_Rule]) -> tuple[str, list[str]]:
    """The default version, and the selectors in the order in which they are tried."""
    default = ""
    selectors: list[str] = []
    for rule in rules:
        conditions = _conditions(rule)
        for backend in rule.route.backends if rule.route else ():
            version = ",".join(backend.tags)
            if backend.name and backend.name != service:
                version = f"{backend.name}:{version}"
            parts = [*conditions, *([f"weight={backend.weight:g}"] if backend.weight else [])]
            if parts:
                selectors.append(f"{version}({','.join(parts)})")
            else:
                # Further down is what an earlier default leaves nothing for.
                default = default or version
    return default, selectors


def _conditions(rule: _Rule) -> list[str]:
    source = source_text(rule.match)
    return [
        *([f" source={source}"] if source else []),
        *(
            f'user="{pattern.removeprefix(_USER)}"'
            if name.lower() == "cookie" and pattern.startswith(_USER)
            else f'header="{name}:{pattern}"'
            for name, pattern in headers_of(rule)
        ),
    ]


def headers_of(rule: _Rule) -> Sequence[tuple[str, str]]:
    return list(rule.match.headers.items()) if rule.match else []


def read_listed(rules: Iterable[Any]) -> list[_Rule]:
    try:
        return [msgspec.convert(rule, _Rule) for rule in rules]
    except msgspec.ValidationError as error:
        raise BadAnswer(f"the controller answered a rule that cannot be read: {error}") from None


def _form(output: show.Form, json: bool) -> show.Form:
    return show.Form.JSON if json else output
