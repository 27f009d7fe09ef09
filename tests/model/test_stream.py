"""Event ids and protocol numbers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amalgam8.model.errors import ProtocolMismatch
from amalgam8.model.stream import PROTOCOL, check_protocol, event_id, parse_event_id


@given(st.text("abc.-0", min_size=1), st.integers(0, 10**15))
def test_ids_are_read_back(epoch: str, revision: int) -> None:
    assert parse_event_id(event_id(epoch, revision)) == (epoch, revision)


@pytest.mark.parametrize("text", ["", ".", "a", "a.", ".5", "a.b", "a.-1", "a.1e3", "a." + "9" * 40, "a.٣"])
def test_other_texts_are_no_ids(text: str) -> None:
    assert parse_event_id(text) is None


def test_the_sentence_names_who_is_older() -> None:
    check_protocol(PROTOCOL, they="the registry", we="this program")
    with pytest.raises(ProtocolMismatch, match="this program is older"):
        check_protocol(PROTOCOL + 1, they="the registry", we="this program")
    with pytest.raises(ProtocolMismatch, match="the registry is older"):
        check_protocol(PROTOCOL - 1, they="the registry", we="this program")
