"""The hash by which a user keeps a version: xxHash64 of the value, modulo the shares, as Envoy cuts it."""

import subprocess
from pathlib import Path

from amalgam8.sidecar.nginx.configuration import lua_folder

MASK = (1 << 64) - 1
P1, P2, P3 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
P4, P5 = 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5


def rotated(value: int, by: int) -> int:
    return (value << by | value >> (64 - by)) & MASK


def lane(acc: int, word: int) -> int:
    return rotated((acc + word * P2) & MASK, 31) * P1 & MASK


def xxh64(data: bytes, seed: int = 0) -> int:
    """xxHash64, as its specification has it."""
    size, at = len(data), 0
    if size >= 32:
        lanes = [(seed + P1 + P2) & MASK, (seed + P2) & MASK, seed, (seed - P1) & MASK]
        while at + 32 <= size:
            words = [int.from_bytes(data[at + 8 * i : at + 8 * i + 8], "little") for i in range(4)]
            lanes = [lane(acc, word) for acc, word in zip(lanes, words, strict=True)]
            at += 32
        h = sum(rotated(acc, by) for acc, by in zip(lanes, (1, 7, 12, 18), strict=True)) & MASK
        for acc in lanes:
            h = ((h ^ lane(0, acc)) * P1 + P4) & MASK
    else:
        h = seed + P5
    h = (h + size) & MASK
    while at + 8 <= size:
        h = (rotated(h ^ lane(0, int.from_bytes(data[at : at + 8], "little")), 27) * P1 + P4) & MASK
        at += 8
    if at + 4 <= size:
        h = (rotated(h ^ int.from_bytes(data[at : at + 4], "little") * P1 & MASK, 23) * P2 + P3) & MASK
        at += 4
    for byte in data[at:]:
        h = rotated(h ^ byte * P5 & MASK, 11) * P1 & MASK
    h = (h ^ h >> 33) * P2 & MASK
    h = (h ^ h >> 29) * P3 & MASK
    return h ^ h >> 32


def test_the_reference_is_right() -> None:
    assert xxh64(b"") == 0xEF46DB3751D8E999
    assert xxh64(b"abc") == 0x44BC2CF5AD770999


def test_ten_thousand_users_are_hashed_alike(tmp_path: Path) -> None:
    users = [f"{'user' * (number % 17)}-{number}" for number in range(10_000)]
    shown = hashes(tmp_path, users, "xxhash.hash(user)")
    assert shown == [xxh64(user.encode()) % 10**8 for user in users]


def test_one_hash_seeds_the_next_whatever_the_order(tmp_path: Path) -> None:
    users = [f"{'user' * (number % 17)}-{number}" for number in range(100)]
    first, last = b"#" * 40, b"z"
    expected = [xxh64(last, xxh64(user.encode(), xxh64(first))) % 10**8 for user in users]
    assert hashes(tmp_path, users, 'xxhash.of_many({"z", ("#"):rep(40), user})') == expected
    assert hashes(tmp_path, users, 'xxhash.of_many({user, "z", ("#"):rep(40)})') == expected


def hashes(folder: Path, users: list[str], made: str) -> list[int]:
    """What Lua makes of each user, modulo the shares."""
    (folder / "users").write_text("".join(f"{user}\n" for user in users))
    (folder / "hash.lua").write_text(
        f'package.path = "{lua_folder()}/?.lua;" .. package.path\n'
        'local xxhash = require "a8.xxhash"\n'
        f'for user in io.lines("{folder}/users") do print(xxhash.modulo({made}, 100000000)) end\n'
    )
    shown = subprocess.run(["luajit", folder / "hash.lua"], capture_output=True, check=True, text=True)
    return [int(each) for each in shown.stdout.split()]
