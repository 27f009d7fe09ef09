"""The scripts as a server sees them; what they decide is tested with the store."""

import re

import pytest

from amalgam8.registry.redis_scripts import EPOCH, FORM_KEY, NEWS, SCRIPTS, TENANTS, keys_of


@pytest.mark.parametrize("tenant", ["default", "}", "{", "a}b{c", "a8r", "a:b", "ü", "x" * 300])
def test_all_keys_of_a_tenant_are_in_one_slot_and_no_others(tenant: str) -> None:
    tags = {found[1] for key in keys_of(tenant) if (found := re.search(r"\{([^}]+)\}", key))}
    assert len(tags) == 1
    assert len(set(keys_of(tenant))) == 6
    assert not set(keys_of(tenant)) & {EPOCH, FORM_KEY, NEWS, TENANTS}


def test_what_concerns_all_tenants_is_in_one_slot() -> None:
    assert {re.findall(r"\{[^}]+\}", key)[0] for key in (EPOCH, FORM_KEY, NEWS, TENANTS)} == {"{a8r}"}


def test_no_two_tenants_share_a_key() -> None:
    names = ["default", "", "}", "%7D", "{", "a:meta", "a", "A", "a b", "a+b"]
    keys = [key for name in names for key in keys_of(name)]
    assert len(set(keys)) == len(keys)


def test_a_script_touches_only_keys_that_it_was_handed() -> None:
    for script in SCRIPTS:
        for key in re.findall(r"redis\.call\('[A-Z]+', ([^,)]+)", script):
            assert re.fullmatch(r"KEYS\[\d\]|unpack\(KEYS|meta|instances|leases|late|heard|stream", key), key
