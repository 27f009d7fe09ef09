"""How often a call is tried and how long it may take, as Envoy's timeouts and retry policies.

Without a rule a call is repeated only where it cannot have been processed, on another instance, and its
answer has to start within HEADERS_TIMEOUT. ``retries`` repeat answers 5xx and broken connections too,
for methods that may be repeated. A rule's timeout covers everything, and so does HEADERS_TIMEOUT without one;
neither is ever a reason to repeat.
"""

from datetime import timedelta
from typing import Any

import msgspec
from envoy.config.route.v3 import route_components_pb2
from envoy.extensions.retry.host.previous_hosts.v3 import previous_hosts_pb2

from amalgam8.routing.resolve import Slice
from amalgam8.sidecar.envoy.messages import packed
from amalgam8.sidecar.envoy.patterns import Predicate, value

HEADERS_TIMEOUT = timedelta(seconds=15)
"""How long an instance may take until its response starts; after that it has no limit."""

SAFE_RETRIES = 2
SAFE = "connect-failure,refused-stream,reset-before-request"
"""Only where the request cannot have been processed."""

FAILED = "5xx,reset,connect-failure,refused-stream"
REPEATABLE = "GET|HEAD|PUT|DELETE|OPTIONS|TRACE"


class Attempts(msgspec.Struct, frozen=True):
    """``timeout`` in seconds for all attempts together, 0: none; ``retries`` None: where it is safe."""

    timeout: float = 0
    retries: int | None = None
    limited: bool = True
    """Whether HEADERS_TIMEOUT holds where there is no timeout."""

    @property
    def sees_faults(self) -> bool:
        """Whether an injected fault has to act behind this: repeated, or cut short."""
        return bool(self.timeout or self.retries)

    @property
    def guarded(self) -> bool:
        """Whether HEADERS_TIMEOUT covers several attempts: Envoy can only say so in a pass of its own.

        It has one timeout until an answer starts, for each attempt, and repeats what that cuts short.
        """
        return bool(self.retries and self.limited and not self.timeout)


DEFAULT = Attempts()


def attempts_of(piece: Slice) -> Attempts:
    return Attempts(piece.timeout, piece.retries)


def by_method(attempts: Attempts) -> list[tuple[Predicate | None, Attempts]]:
    """Attempts by request method, first match wins."""
    if not attempts.retries:
        return [(None, attempts)]
    repeatable = value(":method", safe_regex={"google_re2": {}, "regex": REPEATABLE})
    return [(repeatable, attempts), (None, Attempts(attempts.timeout))]


def bound(action: Any, attempts: Attempts) -> None:
    """Set timeout and retries of a RouteAction, where they are not the virtual host's."""
    action.timeout.FromTimedelta(timedelta(seconds=attempts.timeout))
    if attempts != DEFAULT:
        action.retry_policy.CopyFrom(retry_policy(attempts))


def retry_policy(attempts: Attempts = DEFAULT) -> Any:
    policy = route_components_pb2.RetryPolicy(
        retry_on=FAILED if attempts.retries else "" if attempts.retries == 0 else SAFE,
        num_retries={"value": SAFE_RETRIES if attempts.retries is None else attempts.retries},
        retry_host_predicate=[
            {"name": "previous_hosts", "typed_config": packed(previous_hosts_pb2.PreviousHostsPredicate())}
        ],
        host_selection_retry_max_attempts=5,
        retry_back_off={
            "base_interval": timedelta(milliseconds=10),
            "max_interval": timedelta(milliseconds=50),
        },
    )
    if attempts.limited and not attempts.timeout:
        policy.per_try_timeout.FromTimedelta(HEADERS_TIMEOUT)
    return policy


def guard(action: Any, held: float) -> None:
    """Bound a RouteAction by HEADERS_TIMEOUT, plus ``held`` s of injected delays, and repeat nothing."""
    bound(action, Attempts(0, 0))
    action.retry_policy.per_try_timeout.FromTimedelta(HEADERS_TIMEOUT + timedelta(seconds=held))


def host_message(name: str, domains: list[str]) -> Any:
    return route_components_pb2.VirtualHost(name=name, domains=domains, retry_policy=retry_policy())


def inner(attempts: Attempts) -> Attempts:
    """What is left for the pass behind: repeats where it is safe, which nobody in front can see."""
    return Attempts(0, 0 if attempts.retries == 0 else None, limited=False)
