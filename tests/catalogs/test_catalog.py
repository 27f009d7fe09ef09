"""The seam itself: what a catalogue may be, and what Partial carries."""

from amalgam8.catalogs.catalog import NEVER_HEARD, Catalog, Partial, Teller
from amalgam8.catalogs.contract import Listener
from amalgam8.catalogs.refresh import Refresh
from tests.wire import instance


def test_a_refresh_is_a_catalog_and_a_listener_a_teller() -> None:
    async def fetch() -> dict[str, list[object]]:
        return {}

    catalog: Catalog = Refresh("tried", fetch)  # type: ignore[arg-type]
    teller: Teller = Listener()
    teller.found({})
    assert catalog.name == "tried"


def test_partial_says_what_is_known() -> None:
    one = instance("reviews", 9001)
    partly = Partial("a file is broken", {"default": [one]})
    assert (str(partly), partly.found) == ("a file is broken", {"default": [one]})


def test_never_is_the_time_that_clients_of_the_original_know() -> None:
    assert NEVER_HEARD == "0001-01-01T00:00:00Z"
