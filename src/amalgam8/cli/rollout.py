"""rollout and its like: a new version gets more and more of the calls, as long as it does well.

The controller carries a rollout on, not this terminal: whoever leaves, it goes on. ``rollout`` starts one and
shows what happens; the others take a service or the id of a rollout. Refuses versions without instances.
"""

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from amalgam8.cli import show, terms
from amalgam8.cli.connect import target_of
from amalgam8.cli.listings import Output
from amalgam8.cli.shorthand import Service
from amalgam8.cli.top import seconds
from amalgam8.cli.traffic import WrongShape
from amalgam8.model.errors import A8Error, InvalidSetting
from amalgam8.runtime.kinds import duration, show_duration

if TYPE_CHECKING:
    from amalgam8.cli.connect import Target
    from amalgam8.clients.rollout import Rollout

DONE, INCONCLUSIVE = "done", "inconclusive"
LOOK_EVERY = 0.5
"""Seconds between two looks at a rollout that is watched."""

COLUMNS = ("Service", "Version", "State", "Share", "Started", "Id")
WORDS = {"pause": "paused", "resume": "resumed", "abort": "aborted"}

Which = Annotated[str, typer.Argument(metavar="SERVICE|ID", help="A service, or the id of a rollout.")]

_DURATION, _LATENCY = duration(1, 86400), duration(0.001, 60)


class NoSuchRollout(A8Error):
    """There is none of that service or id."""

    code = "no_such_rollout"


class TakenBack(A8Error):
    """The old version has all calls again."""

    code = "taken_back"


class Inconclusive(A8Error):
    """Nobody can say whether the new version is good."""

    code = "inconclusive"


def rollout(
    ctx: typer.Context,
    service: Service,
    version: Annotated[str, typer.Argument(metavar="VERSION", help="Tags of the new version, such as v2.")],
    steps: Annotated[
        str, typer.Option("--steps", metavar="PERCENT,...", help="Its shares; the last must be 100.")
    ] = "5,25,50,100",
    interval: Annotated[
        str, typer.Option("--interval", metavar="DURATION", help="How long each step is judged.")
    ] = "1m",
    max_errors: Annotated[
        str, typer.Option("--max-errors", metavar="PERCENT", help="Calls to it that may fail, such as 1%.")
    ] = "1%",
    max_p99: Annotated[
        str,
        typer.Option(
            "--max-p99", metavar="DURATION", help="Within which 99 % of its calls are over, such as 500ms."
        ),
    ] = "",
    min_requests: Annotated[
        int, typer.Option("--min-requests", metavar="N", min=1, help="Calls in a step, to judge it by.")
    ] = 50,
    detach: Annotated[bool, typer.Option("--detach", help="Start it, and do not watch.")] = False,
    author: terms.Author = "",
) -> None:
    """Give a new version more and more of the calls, and take it back if it does badly."""
    tags = [tag.strip() for tag in version.split(",") if tag.strip()]
    if not tags:
        raise InvalidSetting("name a version, such as v2")
    order = {
        "service": service,
        "version": tags,
        "steps": [_percent("--steps", step) for step in steps.split(",")],
        "interval": _time("--interval", interval, _DURATION),
        "max_errors": _percent("--max-errors", max_errors) / 100,
        "max_p99": _time("--max-p99", max_p99, _LATENCY) if max_p99 else None,
        "min_requests": min_requests,
    }
    target = target_of(ctx)
    target.with_registry(lambda registry: _need(registry, service, tags))
    started = target.with_controller(lambda controller: controller.start_rollout(order, author))
    if detach:
        show.say(started.id)
        return
    terms.note(f"{started.id}: the controller carries it on; to stop it: a8ctl rollout-abort {started.id}")
    _watch(target, started.id)


def watch(ctx: typer.Context, which: Which) -> None:
    """Show what happens to a rollout, until it is over."""
    target = target_of(ctx)
    _watch(target, _find(target, which).id)


def pause(ctx: typer.Context, which: Which) -> None:
    """Stay at the present share; a version that does badly is taken back all the same."""
    _tell(ctx, which, "pause")


def resume(ctx: typer.Context, which: Which) -> None:
    """Let a paused rollout go on."""
    _tell(ctx, which, "resume")


def abort(ctx: typer.Context, which: Which) -> None:
    """Give the old version all calls again."""
    _tell(ctx, which, "abort")


def rollouts(ctx: typer.Context, output: Output = show.Form.TABLE) -> None:
    """List rollouts, the newest first."""
    found = target_of(ctx).with_controller(lambda controller: controller.rollouts())
    rows = [
        (one.service, ",".join(one.version), one.state, f"{one.share:g} %", one.created, one.id)
        for one in found
    ]
    show.listing(output, COLUMNS, rows, found)


def one(ctx: typer.Context, which: Which, output: Output = show.Form.TABLE) -> None:
    """Show a rollout: its state, its figures, and what happened."""
    found = _find(target_of(ctx), which)
    if output is not show.Form.TABLE:
        show.document(found, show.Document(output.value))
        return
    limits = f"at most {found.max_errors * 100:g} % errors"
    limits += f", p99 {seconds(found.max_p99)}" if found.max_p99 else ""
    show.say(
        f"{found.service}: {','.join(found.old)} → {','.join(found.version)}, {found.state} at"
        f" {found.share:g} %; steps {','.join(f'{step:g}' for step in found.steps)} of"
        f" {show_duration(found.interval)}, {limits}, {found.min_requests} calls at least"
    )
    if found.now:
        show.say(_now(found))
    for event in found.events:
        show.say(f"{event.at}  {show.clean(event.text)}")


def _watch(target: "Target", identity: str) -> None:
    """Show each event as it comes; raises unless the end is a good one."""
    shown = 0
    line = ""
    while True:
        found = target.with_controller(lambda controller: controller.rollout(identity))
        for event in found.events[shown:]:
            _over(line)
            line = ""
            show.say(f"{event.at}  {show.clean(event.text)}")
        shown = len(found.events)
        if found.ended:
            break
        if sys.stderr.isatty():
            _over(line)
            line = _now(found)
            sys.stderr.write(line)
            sys.stderr.flush()
        time.sleep(LOOK_EVERY)
    if found.state == INCONCLUSIVE:
        raise Inconclusive(f"{found.id}: {found.reason}; all calls go to the old version")
    if found.state != DONE:
        raise TakenBack(f"{found.id} {found.state}: {found.reason}; all calls go to the old version")


def _over(line: str) -> None:
    """Wipe the line that shows how it is going."""
    if line:
        sys.stderr.write("\r" + " " * len(line) + "\r")


def _now(found: "Rollout") -> str:
    """How the present interval is going, in one line."""
    if not found.now:
        return f"{found.state}"
    now = found.now
    if now["phase"] == "waiting":
        return f"{found.share:g} %: waiting for sidecars, {now['seconds']:.0f} s"
    parts = [
        f"{name} {figures['requests']} calls, {figures['error_rate'] * 100:.2f} % errors,"
        f" p99 {seconds(figures['p99'])}"
        for name, figures in (("new", now["new"]), ("old", now["old"]))
    ]
    state = f" ({found.state})" if found.state != "running" else ""
    return f"{found.share:g} %{state}: {now['seconds']:.0f} s; " + "; ".join(parts)


def _tell(ctx: typer.Context, which: str, word: str) -> None:
    target = target_of(ctx)
    identity = _find(target, which).id
    target.with_controller(lambda controller: controller.tell_rollout(identity, word))
    show.say(f"{identity} is {WORDS[word]}.")


def _find(target: "Target", which: str) -> "Rollout":
    """The rollout of this id, or the newest of this service."""
    found = target.with_controller(lambda controller: controller.rollouts())
    for rollout in found:
        if which in (rollout.id, rollout.service):
            return rollout
    raise NoSuchRollout(f"there is no rollout {which}, and none of a service of that name")


async def _need(registry: Any, service: str, tags: Sequence[str]) -> None:
    instances = [one for one in await registry.instances() if one.service_name == service]
    if not any(set(tags) <= set(one.tags) for one in instances):
        raise WrongShape(f"{service} has no instance of version {','.join(tags)}")


def _percent(flag: str, text: str) -> float:
    try:
        value = float(text.strip().removesuffix("%"))
    except ValueError:
        value = -1
    if not 0 <= value <= 100:
        raise InvalidSetting(f"{flag}: {text!r} is not allowed; allowed: percent from 0 to 100, such as 1%")
    return value


def _time(flag: str, text: str, kind: Any) -> float:
    try:
        return float(kind.read(text))
    except ValueError:
        raise InvalidSetting(f"{flag}: {text!r} is not allowed; allowed: {kind.allowed}") from None
