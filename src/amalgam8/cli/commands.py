"""The table of commands, each loaded when somebody types it.

A line of the table is enough for ``a8ctl --help``, so that help and completion of names import none of
them. Refuses to know what a command does.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

PROGRAM = "a8ctl"


class Command(NamedTuple):
    """``where`` is ``module:function`` below this package; ``summary`` is the function's first line."""

    where: str
    summary: str
    examples: tuple[str, ...]
    hidden: bool = False

    @property
    def function(self) -> Callable[..., Any]:
        """The function that carries it out, imported now."""
        module, _, name = self.where.partition(":")
        found: Callable[..., Any] = getattr(import_module(f"amalgam8.cli.{module}"), name)
        return found


COMMANDS: dict[str, Command] = {
    "rule-create": Command(
        "rules:create",
        "Create rules, all or none, and print their ids.",
        ("rule-create -f rules.yaml --wait", "rule-create --confirm-within 30s < rules.json"),
    ),
    "rule-get": Command(
        "rules:get",
        "Print rules, in the order in which they are tried, and the revision.",
        ("rule-get -d reviews", "rule-get -i my-rule -o json"),
    ),
    "rule-update": Command(
        "rules:update",
        "Replace whole rules by their ids, all or none.",
        ("rule-get -d reviews > r.yaml; vi r.yaml; a8ctl rule-update -f r.yaml",),
    ),
    "rule-delete": Command(
        "rules:delete",
        "Delete rules by id, tag or destination, or all of them.",
        ("rule-delete -i my-rule", "rule-delete -d reviews -t canary"),
    ),
    "rule-status": Command(
        "rules:status",
        "Show in which sidecars a rule is applied, by what their proxies confirmed.",
        ("rule-status my-rule", "rule-status my-rule -o json"),
    ),
    "explain": Command(
        "explain:explain",
        "Explain what happens to a call, and of each rule why it acts or does not.",
        (
            "explain --from web:v1 --to reviews -H 'Cookie: user=jason'",
            "explain --from web --to reviews --with canary.yaml --without reviews-default --compare",
        ),
    ),
    "validate": Command(
        "validate:validate",
        "Check rule files: what the controller would refuse, and rules that would do nothing.",
        ("validate -f rules/ --strict", "validate -f rules.yaml --offline -o json"),
    ),
    "rule-test": Command(
        "rule_test:rule_test",
        "Hold rules to what their tests expect: versions and shares, faults, refusals.",
        ("rule-test -f tests.yaml --rules rules/", "rule-test -f tests.yaml --junit results.xml"),
    ),
    "rule-clear": Command(
        "shorthand:rule_clear",
        "Delete all action rules of all services; asks first.",
        ("rule-clear",),
    ),
    "apply": Command(
        "declare:apply",
        "Make the controller's rules what the files say, as one revision.",
        (
            "apply -f rules/ --prune --wait",
            "apply -f rules/ --dry-run",
            "apply -f team-a/ --tag team-a --prune",
        ),
    ),
    "diff": Command(
        "declare:diff",
        "Compare files with the controller's rules; exit code 1 if they differ.",
        ("diff -f rules/ --prune",),
    ),
    "history": Command(
        "history:history",
        "List what was changed, by whom and why: the newest first.",
        ("history", "history -n 100 -o json"),
    ),
    "history-show": Command(
        "history:history_show",
        "Show one revision with its difference, rule by rule.",
        ("history-show 7",),
    ),
    "rollback": Command(
        "history:rollback",
        "Make the rules what they were at a revision, as a new one, all or nothing.",
        ("rollback 7 --wait", "rollback 7 --confirm-within 1m"),
    ),
    "confirm": Command(
        "history:confirm", "Let a change stay that would be undone by itself.", ("confirm 8",)
    ),
    "export": Command(
        "history:export",
        "Write all rules and their history to one file.",
        ("export rules.export.json", "export | gzip > rules.json.gz"),
    ),
    "import": Command(
        "history:restore",
        "Give the rules and the history of an export to a controller that has none.",
        ("import rules.export.json",),
    ),
    "fault-list": Command(
        "faults:faults",
        "List the rules that delay or abort requests, and when they end.",
        ("fault-list", "fault-list -d ratings -o json"),
    ),
    "fault-stop": Command(
        "faults:stop",
        "Stop faults: by id, by destination, or all of them.",
        ("fault-stop slow-ratings", "fault-stop --all --wait"),
    ),
    "route-set": Command(
        "shorthand:route_set",
        "Replace all route rules of a service by a default version and what selects others.",
        (
            "route-set reviews --default v1",
            "route-set reviews --default v1 --selector 'v2(user=\"jason\")' --selector 'v3(weight=0.1)'",
        ),
    ),
    "route-delete": Command(
        "shorthand:route_delete", "Delete all route rules of a service.", ("route-delete reviews",)
    ),
    "action-add": Command(
        "shorthand:action_add",
        "Add a rule that delays or aborts calls, above the other action rules of the service.",
        ("action-add -d ratings --source reviews:v2 --cookie user=jason --action 'v1(1->delay=7)'",),
    ),
    "action-clear": Command(
        "shorthand:action_clear", "Delete all action rules of a service.", ("action-clear ratings",)
    ),
    "traffic-start": Command(
        "traffic:start",
        "Give a new version a share of the calls that go to the default version.",
        ("traffic-start reviews v2", "traffic-start reviews v2 --amount 5"),
    ),
    "traffic-step": Command(
        "traffic:step",
        "Give the new version a larger share; at 100 it is the default version.",
        ("traffic-step reviews", "traffic-step reviews --amount 50"),
    ),
    "traffic-abort": Command(
        "traffic:abort", "Send all calls to the default version again.", ("traffic-abort reviews",)
    ),
    "rollout": Command(
        "rollout:rollout",
        "Give a new version more and more of the calls, and take it back if it does badly.",
        (
            "rollout reviews v2 --steps 5,25,50,100 --interval 1m --max-errors 1% --max-p99 500ms",
            "rollout reviews v2 --detach; a8ctl rollout-watch reviews",
        ),
    ),
    "rollout-list": Command(
        "rollout:rollouts", "List rollouts, the newest first.", ("rollout-list", "rollout-list -o json")
    ),
    "rollout-show": Command(
        "rollout:one", "Show a rollout: its state, its figures, and what happened.", ("rollout-show reviews",)
    ),
    "rollout-watch": Command(
        "rollout:watch", "Show what happens to a rollout, until it is over.", ("rollout-watch reviews",)
    ),
    "rollout-pause": Command(
        "rollout:pause",
        "Stay at the present share; a version that does badly is taken back all the same.",
        ("rollout-pause reviews",),
    ),
    "rollout-resume": Command("rollout:resume", "Let a paused rollout go on.", ("rollout-resume reviews",)),
    "rollout-abort": Command(
        "rollout:abort", "Give the old version all calls again.", ("rollout-abort reviews",)
    ),
    "route-list": Command(
        "listings:routes",
        "List the default version of each service that has route rules, and what selects the others.",
        ("route-list", "route-list -s reviews -o json"),
    ),
    "action-list": Command(
        "listings:actions",
        "List the rules that act on requests: delays, aborts.",
        ("action-list", "action-list -d ratings -o yaml"),
    ),
    "service-list": Command(
        "listings:services",
        "List the services that have instances, and how many of each version.",
        ("service-list",),
    ),
    "sidecar-list": Command(
        "listings:sidecars",
        "List the sidecars that the controller knows, and whether their proxies follow the newest rules.",
        ("sidecar-list", "sidecar-list -o json"),
    ),
    "top": Command(
        "top:top",
        "Show requests per second, errors and latency by service and version.",
        ("top", "top -d reviews --once", "top -o json"),
    ),
    "info": Command(
        "listings:info",
        "Show the settings in use, whether they came from flags, the environment or defaults.",
        ("info",),
    ),
    "i": Command("listings:info", "The same as info.", ("i",), hidden=True),
    "context-list": Command(
        "contexts:list_all", "List the meshes that have a name, and which is in use.", ("context-list",)
    ),
    "context-use": Command(
        "contexts:use", "Choose the mesh that commands go to from now on.", ("context-use staging",)
    ),
    "context-set": Command(
        "contexts:put",
        "Give a mesh a name, or change what stands under it.",
        (
            "context-set staging --controller-url https://a8.example:8080 --registry-url https://a8.example:8081",
            "context-set staging --from-environment",
        ),
    ),
    "context-delete": Command("contexts:delete", "Forget the mesh of a name.", ("context-delete staging",)),
    "completion": Command(
        "completion:script",
        "Print the script that lets a shell complete commands, flags, services and rules.",
        ("completion bash > ~/.a8ctl-completion.bash", "completion fish | source"),
    ),
    "token": Command(
        "token:make",
        "Make a token for a tenant and print it.",
        ("token --tenant blue --ttl 24h", "token --tenant admin --key-file private.pem"),
    ),
    "up": Command(
        "up:up",
        "Run a mesh: registry, controller, gateway, and each app with its sidecar.",
        ("up --demo bookinfo", "up -f mesh.yaml --gateway-port 8000"),
    ),
}


def shortened(text: str, width: int) -> str:
    """As many whole words as there is room for."""
    text = text.partition(": ")[0].rstrip(".") if len(text) > width else text.rstrip(".")
    if len(text) <= width:
        return text
    return text[: max(width - 3, 10)].rpartition(" ")[0] + "..."


def examples(*lines: str) -> str:
    """Lines that stand below a help text."""
    # \b keeps the lines apart where help is wrapped.
    return "\b\nExamples:\n" + "\n".join(f"  {PROGRAM} {line}" for line in lines)
