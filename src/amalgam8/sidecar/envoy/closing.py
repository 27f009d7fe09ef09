"""The abort that gives no complete answer: the connection closes (HTTP/1.1), or the stream resets (HTTP/2).

Refused for now: see ``close_filter``.
"""

from typing import Any


def close_filter(probability: float) -> Any:
    """The filter that ends a call without an answer, with ``probability``."""
    raise ValueError("an abort without an answer (return_code -1) is not supported on Envoy yet")
