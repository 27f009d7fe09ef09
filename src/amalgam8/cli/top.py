"""top: what is called now, by service and version, as all sidecars together count it.

On a terminal it shows the table again and again until it is interrupted; else once. Refuses to count by
itself: the figures are the controller's.
"""

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from amalgam8.cli import show
from amalgam8.cli.connect import target_of
from amalgam8.cli.listings import Output
from amalgam8.cli.rules import Destinations
from amalgam8.model.errors import InvalidSetting
from amalgam8.runtime.kinds import duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from amalgam8.cli.connect import Target
    from amalgam8.clients.rollout import Rate, TrafficNow

COLUMNS = ("Service", "Version", "Requests/s", "Errors", "p50", "p99")
EVERY = duration(0.5, 3600)

_CLEAR = "\x1b[H\x1b[J"
"""To the upper left corner, and nothing below."""


def top(
    ctx: typer.Context,
    destinations: Destinations = None,
    output: Output = show.Form.TABLE,
    every: Annotated[
        str, typer.Option("--every", metavar="DURATION", help="How often, on a terminal.")
    ] = "2s",
    once: Annotated[bool, typer.Option("--once", help="Once, on a terminal too.")] = False,
) -> None:
    """Show requests per second, errors and latency by service and version."""
    try:
        pause = EVERY.read(every)
    except ValueError:
        raise InvalidSetting(f"--every: {every!r} is not allowed; allowed: {EVERY.allowed}") from None
    target = target_of(ctx)
    if once or output is not show.Form.TABLE or not sys.stdout.isatty():
        found = _read(target, destinations or ())
        show.listing(output, COLUMNS, rows(found.traffic), found.traffic)
        return
    while True:
        found = _read(target, destinations or ())
        seen = f"{found.sidecars} sidecar{'' if found.sidecars == 1 else 's'} report"
        show.say(_CLEAR + show.table(COLUMNS, rows(found.traffic)) + f"\n{seen}; Ctrl-C ends this.")
        sys.stdout.flush()
        time.sleep(pause)


def rows(rates: "Sequence[Rate]") -> list[tuple[str, ...]]:
    """The table's cells; calls that reached no instance stand under ``-``."""
    return [
        (
            rate.service,
            ",".join(rate.version) or "-",
            f"{rate.requests_per_second:.1f}",
            f"{rate.error_rate * 100:.2f} %",
            seconds(rate.p50),
            seconds(rate.p99),
        )
        for rate in rates
    ]


def seconds(value: float | None) -> str:
    """A latency for people."""
    if value is None:
        return "-"
    return f"{value * 1000:.1f} ms" if value < 1 else f"{value:.2f} s"


def _read(target: "Target", destinations: "Sequence[str]") -> "TrafficNow":
    return target.with_controller(lambda controller: controller.traffic(destinations))
