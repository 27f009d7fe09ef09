"""traffic-start, traffic-step and traffic-abort: a share of the calls for a new version, by hand.

They work on the default route of a service, which is its route rule that is tried last: what others read and
change in the meantime is never overwritten. Refuses a route of another shape, and versions without instances.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from amalgam8.cli import show, terms
from amalgam8.cli.connect import target_of
from amalgam8.cli.shorthand import Service
from amalgam8.model.errors import A8Error, InvalidSetting

if TYPE_CHECKING:
    from amalgam8.cli.connect import Target
    from amalgam8.clients.controller import How, Wrote

STEP = 10
WHOLE = 100

Backend = dict[str, Any]


class WrongShape(A8Error):
    """The routes of the service are not such that traffic can be shifted."""

    code = "wrong_shape"


@terms.writing()
def start(
    ctx: typer.Context,
    service: Service,
    version: Annotated[str, typer.Argument(metavar="VERSION", help="Tags of the new version, such as v2.")],
    amount: Annotated[
        int, typer.Option("--amount", metavar="PERCENT", min=1, max=WHOLE, help="Its share at first.")
    ] = STEP,
    *,
    how: "How",
) -> None:
    """Give a new version a share of the calls that go to the default version."""
    tags = [tag.strip() for tag in version.split(",") if tag.strip()]
    if not tags:
        raise InvalidSetting("name a version, such as v2")

    def begin(backends: list[Backend]) -> list[Backend]:
        if len(backends) != 1 or backends[0].get("weight"):
            raise WrongShape(f"traffic of {service} is split already; see traffic-step and traffic-abort")
        if set(backends[0].get("tags") or ()) == set(tags):
            raise WrongShape(f"{version} is the default version of {service} already")
        target.with_registry(lambda registry: _need(registry, service, [backends[0].get("tags") or [], tags]))
        return _split({"tags": tags}, backends[0], amount)

    target = target_of(ctx)
    wrote = _shift(target, service, begin, how)
    show.say(f"{show.clean(version)} of {show.clean(service)} gets {amount} % of the calls.")
    terms.finish(wrote)


@terms.writing()
def step(
    ctx: typer.Context,
    service: Service,
    amount: Annotated[
        int | None,
        typer.Option(
            "--amount",
            metavar="PERCENT",
            min=1,
            max=WHOLE,
            help=f"Its share; by default {STEP} more than now.",
        ),
    ] = None,
    *,
    how: "How",
) -> None:
    """Give the new version a larger share; at 100 it is the default version."""
    share = 0

    def go_on(backends: list[Backend]) -> list[Backend]:
        nonlocal share
        new, old = _both(service, backends)
        share = min(amount if amount is not None else round(new["weight"] * WHOLE) + STEP, WHOLE)
        return _split({name: value for name, value in new.items() if name != "weight"}, old, share)

    wrote = _shift(target_of(ctx), service, go_on, how)
    show.say(f"The new version of {show.clean(service)} gets {share} % of the calls.")
    terms.finish(wrote)


@terms.writing()
def abort(
    ctx: typer.Context,
    service: Service,
    *,
    how: "How",
) -> None:
    """Send all calls to the default version again."""
    wrote = _shift(target_of(ctx), service, lambda backends: [_both(service, backends)[1]], how)
    show.say(f"All calls of {show.clean(service)} go to the default version.")
    terms.finish(wrote)


def _shift(
    target: "Target", service: str, change: Callable[[list[Backend]], list[Backend]], how: "How"
) -> "Wrote":
    """Change the backends of the default route, if it is still what was read when it is written."""
    import msgspec

    found = target.with_controller(lambda controller: controller.rules(destinations=[service]))
    routes = [rule for rule in found.rules if "route" in rule]
    if not routes:
        raise WrongShape(f"{service} has no route rules; give it a default version with route-set")
    rule = routes[-1]
    if rule.get("match"):
        raise WrongShape(f"{service} has no default version: its last route rule has a condition")
    backends = change(list(rule["route"].get("backends") or ()))
    put = {**rule, "route": {**rule["route"], "backends": backends}}
    safely = msgspec.structs.replace(how, revision=found.revision)
    return target.with_controller(lambda controller: controller.update([put], safely))


def _both(service: str, backends: list[Backend]) -> tuple[Backend, Backend]:
    """The new version's backend and the default version's."""
    if len(backends) != 2 or not backends[0].get("weight") or backends[1].get("weight"):
        raise WrongShape(f"traffic of {service} is not being shifted; begin with traffic-start")
    return backends[0], backends[1]


def _split(new: Backend, old: Backend, share: int) -> list[Backend]:
    return [new] if share >= WHOLE else [{**new, "weight": share / WHOLE}, old]


async def _need(registry: Any, service: str, versions: list[list[str]]) -> None:
    instances = [one for one in await registry.instances() if one.service_name == service]
    for tags in versions:
        if not any(set(tags) <= set(one.tags) for one in instances):
            raise WrongShape(f"{service} has no instance of version {','.join(tags) or '(any)'}")
