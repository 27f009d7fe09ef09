"""a8ctl: the commands, the global flags, and what becomes of errors.

Exit codes: 0 done; 1 the answer is no; 2 usage or configuration; 3 inconclusive; 4 not applied in time;
5 server not reachable; 130 interrupted. An error is one line on standard error, never a traceback.
"""

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from typer.exceptions import TyperException

from amalgam8.cli import completion, show
from amalgam8.cli.commands import PROGRAM, examples
from amalgam8.cli.connect import CONTROLLER_URL, REGISTRY_URL, Target, target_from
from amalgam8.cli.group import Group
from amalgam8.model.errors import A8Error, InvalidInput, Unavailable

DONE, NO, USAGE, INCONCLUSIVE, LATE, UNREACHABLE, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130

GLOBAL_FLAGS = {
    "--controller-url": True,
    "--a8-controller-url": True,
    "--controller-token": True,
    "--a8-controller-token": True,
    "--registry-url": True,
    "--a8-registry-url": True,
    "--registry-token": True,
    "--a8-registry-token": True,
    "--ca-cert": True,
    "--client-cert": True,
    "--client-key": True,
    "--context": True,
    "--debug": False,
}
"""Flags that may stand before or after the command, and whether they take a value."""

LATER = (
    *("recipe-run", "rule-list", "rule-set", "--gremlin-url", "--gremlin-token"),
    *("--a8-gremlin-url", "--a8-gremlin-token", "--a8-log-server"),
)
"""Commands and flags of the original that are known and not built."""


def application() -> typer.Typer:
    """The command line as a typer application."""
    app = typer.Typer(
        name=PROGRAM,
        cls=Group,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        invoke_without_command=True,
        context_settings={"help_option_names": ["-h", "--help"], "token_normalize_func": _normal},
        epilog=examples("route-list", "--controller-url http://10.0.0.5:31200 rule-get -d reviews"),
    )
    app.callback()(_global)
    return app


def _global(
    ctx: typer.Context,
    controller_url: Annotated[
        str | None,
        typer.Option(
            "--controller-url",
            "--a8-controller-url",
            envvar="A8_CONTROLLER_URL",
            metavar="URL",
            help=f"The controller. By default the context's, else {CONTROLLER_URL}.",
        ),
    ] = None,
    controller_token: Annotated[
        str | None,
        typer.Option(
            "--controller-token",
            "--a8-controller-token",
            envvar="A8_CONTROLLER_TOKEN",
            metavar="TOKEN",
            help="Sent to the controller as a bearer token.",
            show_default=False,
        ),
    ] = None,
    registry_url: Annotated[
        str | None,
        typer.Option(
            "--registry-url",
            "--a8-registry-url",
            envvar="A8_REGISTRY_URL",
            metavar="URL",
            help=f"The registry. By default the context's, else {REGISTRY_URL}.",
        ),
    ] = None,
    registry_token: Annotated[
        str | None,
        typer.Option(
            "--registry-token",
            "--a8-registry-token",
            envvar="A8_REGISTRY_TOKEN",
            metavar="TOKEN",
            help="Sent to the registry as a bearer token.",
            show_default=False,
        ),
    ] = None,
    ca_cert: Annotated[
        str | None,
        typer.Option(
            "--ca-cert",
            envvar="A8_CA_CERT",
            metavar="FILE",
            help="Authorities in PEM that https URLs are checked against, in place of the system's.",
            show_default=False,
        ),
    ] = None,
    client_cert: Annotated[
        str | None,
        typer.Option(
            "--client-cert",
            envvar="A8_CLIENT_CERT",
            metavar="FILE",
            help="Certificate chain in PEM to show where a server asks for one.",
            show_default=False,
        ),
    ] = None,
    client_key: Annotated[
        str | None,
        typer.Option(
            "--client-key",
            envvar="A8_CLIENT_KEY",
            metavar="FILE",
            help="Private key of the certificate, in PEM.",
            show_default=False,
        ),
    ] = None,
    context: Annotated[
        str | None,
        typer.Option(
            "--context",
            envvar="A8_CONTEXT",
            metavar="NAME",
            help="The mesh of this name, see context-list. By default the one that context-use chose.",
            autocompletion=completion.contexts,
        ),
    ] = None,
    debug: Annotated[
        bool,
        typer.Option("--debug", envvar="A8_DEBUG", help="Show each request as a curl line, without tokens."),
    ] = False,
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    """Rules and services of an Amalgam8 mesh.

    Global flags may stand before or after the command; - and _ are the same in names.
    """
    if version:
        from importlib.metadata import version as installed

        show.say(f"{PROGRAM} {installed('amalgam8')}")
        raise typer.Exit
    if ctx.invoked_subcommand is None:
        sys.stderr.write(ctx.get_help() + "\n")
        raise typer.Exit(USAGE)
    given = {
        "controller_url": controller_url,
        "controller_token": controller_token,
        "registry_url": registry_url,
        "registry_token": registry_token,
        "ca_cert": ca_cert,
        "client_cert": client_cert,
        "client_key": client_key,
        "context": context,
    }
    # What manages contexts must work where the one in use does not.
    late = ctx.invoked_subcommand.startswith("context-") or ctx.invoked_subcommand in (
        "completion",
        "token",
        "up",
    )
    ctx.obj = Target(debug=debug) if late else target_from(given, debug=debug)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; returns its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="backslashreplace")
    try:
        code = _run(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has gone. Python would complain about it once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return NO
    return code


def _run(argv: list[str]) -> int:
    completion.prepare()
    command = typer.main.get_command(application())
    try:
        result = command.main(args=hoist(argv), prog_name=PROGRAM, standalone_mode=False)
        return result if isinstance(result, int) else DONE
    except TyperException as error:
        return _refuse(_usage(error), error.exit_code)
    except A8Error as error:
        return _refuse(str(error), exit_code(error))
    except KeyboardInterrupt:
        return INTERRUPTED
    except typer.Abort:
        return INTERRUPTED
    except BrokenPipeError:
        raise
    except OSError as error:
        return _refuse(f"{error.filename or ''} {error.strerror or error}".strip(), NO)
    except Exception as error:
        if any(word == "--debug" for word in argv):
            raise
        return _refuse(f"internal error (--debug shows more): {type(error).__name__}: {error}", NO)


def hoist(argv: Sequence[str]) -> list[str]:
    """``argv`` with the global flags in front of the command, wherever they stood."""
    front: list[str] = []
    rest: list[str] = []
    given = list(argv)
    while given:
        word = given.pop(0)
        if word == "--":
            rest += [word, *given]
            break
        takes_value = GLOBAL_FLAGS.get(_normal(word.partition("=")[0]))
        if takes_value is None:
            rest.append(word)
            continue
        front.append(word)
        if takes_value and "=" not in word and given:
            front.append(given.pop(0))
    return front + rest


def exit_code(error: A8Error) -> int:
    """The exit code that stands for this error."""
    status = getattr(error, "status", None)
    if status in (502, 503, 504):
        return UNREACHABLE
    if error.code in ("not_ready", "not_applied"):
        return LATE
    if error.code == "inconclusive":
        return INCONCLUSIVE
    if isinstance(error, Unavailable):
        return UNREACHABLE
    return USAGE if isinstance(error, InvalidInput) else NO


def _usage(error: TyperException) -> str:
    """What was wrong with the command line, and where help is."""
    text = error.format_message().rstrip(".").replace("Value error, ", "")
    for word in text.replace("'", " ").replace(":", " ").split():
        if _normal(word) in LATER:
            return f"{word} is not supported yet"
    path = getattr(getattr(error, "ctx", None), "command_path", PROGRAM)
    return f"{text}; see '{path} --help'"


def _refuse(text: str, code: int) -> int:
    sys.stderr.write(f"{PROGRAM}: {show.one_line(text)}\n")
    return code


def _normal(name: str) -> str:
    return name.replace("_", "-")


if __name__ == "__main__":
    sys.exit(main())
