"""a8ctl: the commands, the global flags, and what becomes of errors.

Exit codes: 0 done; 1 the answer is no; 2 usage or configuration; 3 inconclusive; 4 not applied in time;
5 server not reachable; 130 interrupted. An error is one line on standard error, never a traceback.
"""

import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer
from typer.exceptions import TyperException

from amalgam8.cli import (
    declare,
    faults,
    history,
    listings,
    rollout,
    rules,
    shorthand,
    show,
    token,
    top,
    traffic,
    up,
)
from amalgam8.cli.connect import CONTROLLER_URL, REGISTRY_URL, Target
from amalgam8.model.errors import A8Error, InvalidInput, Unavailable

PROGRAM = "a8ctl"

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
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        invoke_without_command=True,
        context_settings={"help_option_names": ["-h", "--help"], "token_normalize_func": _normal},
        epilog=_examples("route-list", "--controller-url http://10.0.0.5:31200 rule-get -d reviews"),
    )
    app.callback()(_global)
    for name, function, examples in COMMANDS:
        app.command(name, epilog=_examples(*examples), short_help=_summary(function))(function)
    app.command("i", hidden=True, help="The same as info.")(listings.info)
    return app


def _global(
    ctx: typer.Context,
    controller_url: Annotated[
        str,
        typer.Option(
            "--controller-url",
            "--a8-controller-url",
            envvar="A8_CONTROLLER_URL",
            metavar="URL",
            help="The controller.",
        ),
    ] = CONTROLLER_URL,
    controller_token: Annotated[
        str,
        typer.Option(
            "--controller-token",
            "--a8-controller-token",
            envvar="A8_CONTROLLER_TOKEN",
            metavar="TOKEN",
            help="Sent to the controller as a bearer token.",
            show_default=False,
        ),
    ] = "",
    registry_url: Annotated[
        str,
        typer.Option(
            "--registry-url",
            "--a8-registry-url",
            envvar="A8_REGISTRY_URL",
            metavar="URL",
            help="The registry.",
        ),
    ] = REGISTRY_URL,
    registry_token: Annotated[
        str,
        typer.Option(
            "--registry-token",
            "--a8-registry-token",
            envvar="A8_REGISTRY_TOKEN",
            metavar="TOKEN",
            help="Sent to the registry as a bearer token.",
            show_default=False,
        ),
    ] = "",
    ca_cert: Annotated[
        str,
        typer.Option(
            "--ca-cert",
            envvar="A8_CA_CERT",
            metavar="FILE",
            help="Authorities in PEM that https URLs are checked against, in place of the system's.",
            show_default=False,
        ),
    ] = "",
    client_cert: Annotated[
        str,
        typer.Option(
            "--client-cert",
            envvar="A8_CLIENT_CERT",
            metavar="FILE",
            help="Certificate chain in PEM to show where a server asks for one.",
            show_default=False,
        ),
    ] = "",
    client_key: Annotated[
        str,
        typer.Option(
            "--client-key",
            envvar="A8_CLIENT_KEY",
            metavar="FILE",
            help="Private key of the certificate, in PEM.",
            show_default=False,
        ),
    ] = "",
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
    ctx.obj = Target(
        controller_url,
        controller_token,
        registry_url,
        registry_token,
        debug,
        ca_cert,
        client_cert,
        client_key,
    )


COMMANDS: tuple[tuple[str, Callable[..., Any], tuple[str, ...]], ...] = (
    (
        "rule-create",
        rules.create,
        ("rule-create -f rules.yaml --wait", "rule-create --confirm-within 30s < rules.json"),
    ),
    ("rule-get", rules.get, ("rule-get -d reviews", "rule-get -i my-rule -o json")),
    ("rule-update", rules.update, ("rule-get -d reviews > r.yaml; vi r.yaml; a8ctl rule-update -f r.yaml",)),
    ("rule-delete", rules.delete, ("rule-delete -i my-rule", "rule-delete -d reviews -t canary")),
    ("rule-status", rules.status, ("rule-status my-rule", "rule-status my-rule -o json")),
    ("rule-clear", shorthand.rule_clear, ("rule-clear",)),
    (
        "apply",
        declare.apply,
        (
            "apply -f rules/ --prune --wait",
            "apply -f rules/ --dry-run",
            "apply -f team-a/ --tag team-a --prune",
        ),
    ),
    ("diff", declare.diff, ("diff -f rules/ --prune",)),
    ("history", history.history, ("history", "history -n 100 -o json")),
    ("history-show", history.history_show, ("history-show 7",)),
    ("rollback", history.rollback, ("rollback 7 --wait", "rollback 7 --confirm-within 1m")),
    ("confirm", history.confirm, ("confirm 8",)),
    ("export", history.export, ("export rules.export.json", "export | gzip > rules.json.gz")),
    ("import", history.restore, ("import rules.export.json",)),
    ("fault-list", faults.faults, ("fault-list", "fault-list -d ratings -o json")),
    ("fault-stop", faults.stop, ("fault-stop slow-ratings", "fault-stop --all --wait")),
    (
        "route-set",
        shorthand.route_set,
        (
            "route-set reviews --default v1",
            "route-set reviews --default v1 --selector 'v2(user=\"jason\")' --selector 'v3(weight=0.1)'",
        ),
    ),
    ("route-delete", shorthand.route_delete, ("route-delete reviews",)),
    (
        "action-add",
        shorthand.action_add,
        ("action-add -d ratings --source reviews:v2 --cookie user=jason --action 'v1(1->delay=7)'",),
    ),
    ("action-clear", shorthand.action_clear, ("action-clear ratings",)),
    ("traffic-start", traffic.start, ("traffic-start reviews v2", "traffic-start reviews v2 --amount 5")),
    ("traffic-step", traffic.step, ("traffic-step reviews", "traffic-step reviews --amount 50")),
    ("traffic-abort", traffic.abort, ("traffic-abort reviews",)),
    *rollout.COMMANDS,
    ("route-list", listings.routes, ("route-list", "route-list -s reviews -o json")),
    ("action-list", listings.actions, ("action-list", "action-list -d ratings -o yaml")),
    ("service-list", listings.services, ("service-list",)),
    ("sidecar-list", listings.sidecars, ("sidecar-list", "sidecar-list -o json")),
    ("top", top.top, ("top", "top -d reviews --once", "top -o json")),
    ("info", listings.info, ("info",)),
    ("token", token.make, ("token --tenant blue --ttl 24h", "token --tenant admin --key-file private.pem")),
    ("up", up.up, ("up --demo bookinfo", "up -f mesh.yaml --gateway-port 8000")),
)


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


def _summary(function: Callable[..., Any]) -> str:
    return (function.__doc__ or "").strip().partition("\n")[0]


def _examples(*lines: str) -> str:
    # \b keeps the lines apart where help is wrapped.
    return "\b\nExamples:\n" + "\n".join(f"  {PROGRAM} {line}" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
