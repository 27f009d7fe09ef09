-- xxHash64, in 64-bit integers of the FFI: the hash that the other proxy splits users by.

local ffi = require "ffi"
local bit = require "bit"

local rol, bxor, rshift = bit.rol, bit.bxor, bit.rshift
local uint64 = ffi.typeof("uint64_t")
local words = ffi.typeof("const uint64_t *")
local halves = ffi.typeof("const uint32_t *")
local bytes = ffi.typeof("const uint8_t *")

local P1, P2, P3 = 0x9E3779B185EBCA87ULL, 0xC2B2AE3D27D4EB4FULL, 0x165667B19E3779F9ULL
local P4, P5 = 0x85EBCA77C2B2AE63ULL, 0x27D4EB2F165667C5ULL

local M = {}

local function round(acc, input)
    return rol(acc + input * P2, 31) * P1
end

local function merge(acc, lane)
    return bxor(acc, round(0ULL, lane)) * P1 + P4
end

-- The hash of a string with a seed (0 where there is none), as uint64_t.
function M.hash(text, seed)
    seed = seed or 0ULL
    local length = #text
    local data = ffi.cast(bytes, text)
    local at = 0
    local h
    if length >= 32 then
        local v1, v2, v3, v4 = seed + P1 + P2, seed + P2, seed, seed - P1
        repeat
            local four = ffi.cast(words, data + at)
            v1, v2 = round(v1, four[0]), round(v2, four[1])
            v3, v4 = round(v3, four[2]), round(v4, four[3])
            at = at + 32
        until at > length - 32
        h = rol(v1, 1) + rol(v2, 7) + rol(v3, 12) + rol(v4, 18)
        h = merge(merge(merge(merge(h, v1), v2), v3), v4)
    else
        h = seed + P5
    end
    h = h + uint64(length)
    while at + 8 <= length do
        h = rol(bxor(h, round(0ULL, ffi.cast(words, data + at)[0])), 27) * P1 + P4
        at = at + 8
    end
    if at + 4 <= length then
        h = rol(bxor(h, uint64(ffi.cast(halves, data + at)[0]) * P1), 23) * P2 + P3
        at = at + 4
    end
    while at < length do
        h = rol(bxor(h, uint64(data[at]) * P5), 11) * P1
        at = at + 1
    end
    h = bxor(h, rshift(h, 33)) * P2
    h = bxor(h, rshift(h, 29)) * P3
    return bxor(h, rshift(h, 32))
end

-- The hash of several values, in whatever order they came: each is the seed of the next.
function M.of_many(values)
    table.sort(values)
    local h = 0ULL
    for _, value in ipairs(values) do
        h = M.hash(value, h)
    end
    return h
end

-- A hash modulo a whole number below 2^53, as a number.
function M.modulo(h, whole)
    return tonumber(h % uint64(whole))
end

return M
