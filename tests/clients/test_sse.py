"""The parser of event streams: however the bytes are cut, the events are the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amalgam8.clients import sse
from amalgam8.clients.sse import Parser, Received
from amalgam8.model.errors import BadAnswer
from amalgam8.web.sse import frame

WORDS = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_characters="\x85"), max_size=8)
EVENTS = st.lists(
    st.one_of(
        st.tuples(st.text("abc", min_size=1), st.none() | st.text("abc.123", min_size=1), WORDS),
        st.none(),  # a comment
    ),
    max_size=6,
)


@given(EVENTS, st.data())
def test_any_chunking_gives_the_same_events(
    events: list[tuple[str, str | None, str] | None], data: st.DataObject
) -> None:
    wire = b"".join(
        b":\n\n" if event is None else frame(event[0], event[1], event[2].encode()) for event in events
    )
    expected = [
        Received(name, identity or "", text.encode()) for name, identity, text in filter(None, events)
    ]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=12)))
    parser, found = Parser(), []
    for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        found += parser.feed(wire[start:end])
    assert found == expected


def test_an_event_may_have_several_lines_and_unknown_fields() -> None:
    assert Parser().feed(b"data: a\nretry: 5\ndata:b\nid:7\nwhatever\n\n") == [
        Received("message", "7", b"a\nb")
    ]


def test_carriage_returns_at_line_ends_are_dropped() -> None:
    assert Parser().feed(b"event: x\r\ndata: a\r\n\n") == [Received("x", "", b"a")]


def test_an_event_without_data_is_none() -> None:
    assert Parser().feed(b"event: x\n\n: hello\n\n\n\n") == []


def test_an_event_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "EVENT_LIMIT", 100)
    parser = Parser()
    parser.feed(b"data: " + b"x" * 80)
    with pytest.raises(BadAnswer, match="larger than 100 bytes"):
        parser.feed(b"x" * 80)


@pytest.mark.parametrize("field", [b"event", b"id"])
def test_names_that_are_no_text_are_a_bad_answer(field: bytes) -> None:
    with pytest.raises(BadAnswer):
        Parser().feed(field + b": \xff\xfe\ndata: {}\n\n")
