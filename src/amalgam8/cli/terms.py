"""Flags that every writing command has: waiting until it is applied, who writes and why, taking it back.

A command that waited and was not applied everywhere lists who is missing and ends with exit code 4: what was
written stays written. Refuses durations that cannot be one.
"""

import functools
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from amalgam8.cli import show
from amalgam8.model.errors import A8Error, InvalidSetting
from amalgam8.runtime.kinds import Kind, duration, whole

if TYPE_CHECKING:
    from amalgam8.clients.controller import How, Standing, Wrote

T = TypeVar("T")
Flags = Mapping[str, tuple[Any, Any]]
"""Annotation and default of each."""

Wait = Annotated[
    bool, typer.Option("--wait", help="Wait until it is applied in every sidecar that it concerns.")
]
Timeout = Annotated[str, typer.Option("--timeout", metavar="DURATION", help="How long to wait, such as 10s.")]
Author = Annotated[
    str, typer.Option("--author", envvar="A8_AUTHOR", metavar="NAME", help="Who writes, for the history.")
]
Comment = Annotated[str, typer.Option("--comment", metavar="TEXT", help="Why, for the history.")]
ConfirmWithin = Annotated[
    str,
    typer.Option(
        "--confirm-within",
        metavar="DURATION",
        help="Undo it by itself after this time, such as 30s, unless a8ctl confirm comes.",
    ),
]
IfRevision = Annotated[
    str,
    typer.Option("--if-revision", metavar="N", help="Write only if the rules are still at this revision."),
]
PATIENCE = "10s"

_WAIT, _CONFIRM, _REVISION = duration(0, 300), duration(1, 86400), whole(0, 10**15)


class NotApplied(A8Error):
    """Written, and not applied everywhere in time."""

    code = "not_applied"


_CAREFUL: Flags = {"confirm_within": (ConfirmWithin, ""), "if_revision": (IfRevision, "")}
_WAITING: Flags = {"wait": (Wait, False), "timeout": (Timeout, PATIENCE)}
_SIGNED: Flags = {"author": (Author, ""), "comment": (Comment, "")}


def writing(*, waits: bool = True, careful: bool = False) -> Callable[[Callable[..., T]], Callable[..., T]]:
    """Gives a command the flags of writing, in place of its parameter ``how``, which it is handed.

    ``waits``: --wait and --timeout too; ``careful``: --confirm-within and --if-revision too.
    """
    flags = {**(_CAREFUL if careful else {}), **(_WAITING if waits else {}), **_SIGNED}

    def decorate(command: Callable[..., T]) -> Callable[..., T]:
        own = inspect.signature(command)
        added = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
            for name, (annotation, default) in flags.items()
        ]
        kept = [parameter for parameter in own.parameters.values() if parameter.name != "how"]

        @functools.wraps(command)
        def written(**given: Any) -> T:
            terms = {name: given.pop(name) for name in flags}
            return command(**given, how=how(**terms))

        signature = own.replace(parameters=[*kept, *added])
        written.__signature__ = signature  # type: ignore[attr-defined]  # typer reads the flags off it
        written.__annotations__ = {
            parameter.name: parameter.annotation for parameter in signature.parameters.values()
        } | {"return": own.return_annotation}
        return written

    return decorate


def how(
    wait: bool = False,
    timeout: str = PATIENCE,
    author: str = "",
    comment: str = "",
    confirm_within: str = "",
    if_revision: str = "",
) -> "How":
    """The terms that these flags ask for; raises InvalidSetting."""
    from amalgam8.clients.controller import How

    return How(
        _read("--timeout", timeout, _WAIT) if wait else None,
        _read("--confirm-within", confirm_within, _CONFIRM) if confirm_within else None,
        int(_read("--if-revision", if_revision, _REVISION)) if if_revision else None,
        show.one_line(author),
        show.one_line(comment),
    )


def finish(wrote: "Wrote") -> None:
    """Say on standard error what is still to be said, and raise NotApplied where somebody is missing."""
    if wrote.confirm_by:
        number = wrote.revision
        note(f"revision {number} is undone at {wrote.confirm_by} unless: a8ctl confirm {number}")
    if wrote.applied is False:
        for line in missing(wrote.missing):
            note(line)
        count = len(wrote.missing)
        raise NotApplied(
            f"revision {wrote.revision} is written, but not applied in {count} of the {wrote.concerned}"
            f" sidecar{'s' if wrote.concerned != 1 else ''} that it concerns"
        )


def missing(standings: "Iterable[Standing]") -> list[str]:
    """One line for each sidecar that has not applied a revision."""
    return [
        f"missing: {one.service}{':' if one.tags else ''}{','.join(one.tags)} {one.state}"
        f"{f' ({one.reason})' if one.reason else ''} {one.id}"
        for one in standings
    ]


def note(text: str) -> None:
    """One line for people, beside the answer."""
    sys.stderr.write(show.one_line(text) + "\n")


def _read(flag: str, text: str, kind: "Kind[float] | Kind[int]") -> float:
    try:
        return kind.read(text)
    except ValueError:
        raise InvalidSetting(f"{flag}: {text!r} is not allowed; allowed: {kind.allowed}") from None
