"""The scripts as a server sees them; what they decide is tested with the store."""

import re

import pytest

from amalgam8.controller.redis_scripts import EPOCH, FORM_KEY, NEWS, SCRIPTS, SECRET, TENANTS, keys_of


@pytest.mark.parametrize("tenant", ["default", "}", "{", "a}b{c", "a8c", "a:b", "ü", "x" * 300])
def test_all_keys_of_a_tenant_are_in_one_slot_and_no_others(tenant: str) -> None:
    tags = {found[1] for key in keys_of(tenant) if (found := re.search(r"\{([^}]+)\}", key))}
    assert len(tags) == 1
    assert len(set(keys_of(tenant))) == 6
    assert not set(keys_of(tenant)) & {EPOCH, NEWS, SECRET, TENANTS}


def test_what_concerns_all_tenants_is_in_one_slot() -> None:
    assert {re.findall(r"\{[^}]+\}", key)[0] for key in (EPOCH, FORM_KEY, NEWS, SECRET, TENANTS)} == {"{a8c}"}


def test_a_script_touches_only_keys_that_it_was_handed() -> None:
    for script in SCRIPTS:
        for key in re.findall(r"redis\.call\('[A-Z]+', ([^,)]+)", script):
            known = r"KEYS\[\d\]|unpack\(KEYS|meta|rules|log|roster|words|said|kind == .*|'persistence'"
            assert re.fullmatch(known, key), key
