"""The number of the form in which a shared store keeps what it has.

Programs of several versions may meet in one store. Whoever changes its form raises the number, and begins
another epoch: then those who are there already look again, and the older ones leave it alone. Refuses to
know what the forms are; each kind of store counts its own.
"""

from amalgam8.model.errors import StoreUnavailable


class LaterForm(StoreUnavailable):
    """The store is one of a newer version, and stays so."""


def check_form(found: int, known: int, *, we: str) -> None:
    """Refuse a store of a later form than ``known`` with a sentence that says who must be upgraded.

    Raises:
        LaterForm: it is of a later form.
    """
    if found > known:
        raise LaterForm(
            f"the store was written by a newer version (form {found}; this one knows {known}): upgrade {we}"
        )
