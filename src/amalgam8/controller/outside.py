"""Takes over what people change in the store itself, such as with ``kubectl``, as if they had used the API.

Each becomes a revision of its own, by author OUTSIDE, so that history, rollback and the ledger know of it.
Refuses nothing by itself: where a rule cannot be taken, the store is told why.
"""

from collections.abc import AsyncIterator, Callable
from typing import Protocol, runtime_checkable

import msgspec

from amalgam8.controller import rulebook
from amalgam8.controller.book import Change, Rulebook
from amalgam8.controller.rulebook import Selection, Write
from amalgam8.controller.tenants import Tenants, Terms
from amalgam8.model.errors import A8Error, StoreUnavailable
from amalgam8.model.rule import Rule
from amalgam8.runtime.logs import Log

OUTSIDE = "kubectl"

_log = Log("outside")


class Edit(msgspec.Struct, frozen=True):
    """A rule that somebody wrote or (None) removed; ``refused`` is told why it is not taken."""

    tenant: str
    id: str
    rule: Rule | None
    refused: Callable[[str], None]


@runtime_checkable
class Edited(Protocol):
    """A store that people change by hand."""

    def edits(self) -> AsyncIterator[Edit]:
        """What they change, one after another; never ends by itself."""


async def follow(tenants: Tenants, store: Edited) -> None:
    """Take over edits; runs until it is cancelled."""
    async for edit in store.edits():
        await take(tenants, edit)


async def take(tenants: Tenants, edit: Edit) -> None:
    """Make one edit a revision, unless the rules say the same already."""
    tenant = await tenants.get(edit.tenant)
    try:
        change = await tenants.write(tenant, lambda book, write: _operation(edit, book, write), _TERMS)
    except StoreUnavailable as error:
        _log.warning("an edit has to wait", tenant=edit.tenant, rule=edit.id, error=error)
    except A8Error as error:
        edit.refused(str(error))
    else:
        if change is not None:
            _log.info("taken over", tenant=edit.tenant, rule=edit.id, revision=change.revision)


_TERMS = Terms(author=OUTSIDE, comment="changed in the store")


def _operation(edit: Edit, book: Rulebook, write: Write) -> Change | None:
    known = book.rules.get(edit.id)
    if edit.rule is None:
        return rulebook.remove(book, Selection(ids=(edit.id,)), write) if known else None
    if known is None:
        return rulebook.create(book, [edit.rule], write)
    if msgspec.structs.replace(edit.rule, created=known.created, author=known.author) == known:
        return None
    return rulebook.replace(book, [edit.rule], write)
