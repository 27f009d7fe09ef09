"""What people wait for: a8ctl to start, and the controller to explain a call among many rules.

In seconds of the processor, which other work on the machine does not change much.
"""

import asyncio
import os
import resource
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

from amalgam8.cli.expectations import differences
from amalgam8.cli.suite_reader import read_suite
from amalgam8.controller.book import book_of
from amalgam8.controller.explain_api import present
from amalgam8.controller.plans import Plans
from amalgam8.controller.store import Mirror
from amalgam8.model.caller import caller
from amalgam8.model.instance import Endpoint, Instance
from amalgam8.model.rule import Rule, rfc3339
from amalgam8.model.rule_reader import read_list
from amalgam8.routing.explain import Call, explain
from benchmarks.figures import line, quantile

STARTS = 15
RULES = 20_000
SERVICES = 500
QUESTIONS = 100
WEB = caller("web", ["v1"])


async def run() -> AsyncIterator[str]:
    """Measure; gives each line to print once it is known."""
    for text in await asyncio.to_thread(_starts):
        yield text
    yield _explained("explain, p50, 20,000 rules of 500 services", SERVICES, 10)
    yield _explained("explain, p50, 20,000 rules of one service", 1, 1000)
    yield _tested()


def _starts() -> list[str]:
    figures = []
    for argv in (("--help",), ("info",), ("rule-get", "--help"), ("explain", "--help")):
        took = []
        for _ in range(STARTS):
            started = _children()
            subprocess.run(
                [sys.executable, "-m", "amalgam8.cli.main", *argv],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
                stdout=subprocess.DEVNULL,
                check=True,
            )
            took.append(_children() - started)
        figures.append(
            line(f"a8ctl {' '.join(argv)}, p50 of {STARTS}", quantile(took, 0.5) * 1000, 200, "ms")
        )
    return figures


def _children() -> float:
    """Seconds that processes started here have taken so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _rules(services: int) -> list[Rule]:
    made: list[Rule] = []
    for i in range(RULES):
        document = {
            "id": f"r{i}",
            "priority": i // services,
            "destination": f"s{i % services}",
            "match": {"headers": {"X-User": f"^user-{i}$"}},
            "route": {"backends": [{"tags": ["v1"]}]},
        }
        made += read_list({"rules": [document]})
    return [_aged(rule, i) for i, rule in enumerate(made)]


def _aged(rule: Rule, age: int) -> Rule:
    return Rule(
        rule.id, rule.priority, rule.destination, match=rule.match, route=rule.route, created=rfc3339(age)
    )


def _explained(what: str, services: int, aim: float) -> str:
    book = book_of(_rules(services), 1, 0)
    instances: dict[str, tuple[Instance, ...]] = {
        f"s{i}": (Instance(f"i{i}", f"s{i}", Endpoint("http", "10.0.0.1:1"), tags=("v1",)),)
        for i in range(services)
    }
    plans = Plans(Mirror(book))
    took = []
    for i in range(QUESTIONS if services > 1 else 5):
        world = present(book, plans, WEB, instances)
        started = time.process_time()
        explain(world, WEB, Call(f"s{i % services}", "/x", headers={"X-User": f"user-{i}"}), 10.0)
        took.append(time.process_time() - started)
    return line(what, quantile(took, 0.5) * 1000, aim, "ms")


def _tested() -> str:
    """Rule tests of a file, each with two rules to look at."""
    document: dict[str, Any] = {
        "tests": [
            {"name": str(i), "destination": f"s{i}", "expect": {"versions": {"v1": 1}, "faults": []}}
            for i in range(SERVICES)
        ]
    }
    suite = read_suite(document, "tests")
    rules = read_list(
        {
            "rules": [
                {"id": f"r{i}", "destination": f"s{i}", "route": {"backends": [{"tags": ["v1"]}]}}
                for i in range(SERVICES)
            ]
        }
    )
    book = book_of(rules, 1, 0)
    plans = Plans(Mirror(book))
    started = time.process_time()
    for test in suite.tests:
        found = explain(present(book, plans, test.caller, None), test.caller, test.call, 10.0)
        assert not list(differences(test.expect, found))
    return line(
        "rule tests in a second", SERVICES / (time.process_time() - started), 500, "1/s", at_most=False
    )
