-- The headers of the request at hand, read once and without making strings of those that nobody asks for.
-- Valid until the handler yields: what is needed later has to be taken before.
-- Headers are found by their names' length and first letter, which few share. What was found is kept from
-- request to request with its turn: to change an entry costs less than to add it.

local bit = require "bit"
local ffi = require "ffi"
local base = require "resty.core.base"
require "resty.core.request"  -- declares the functions used here

local C, text, byte, sub = ffi.C, ffi.string, string.byte, string.sub
local band, lshift = bit.band, bit.lshift

local LIMIT = 200
local NAMES = 1000  -- rules may have asked for any, and for others before
local SHELVES = 1024
local X, DASH, A, E, PLUS = byte("x-ae+", 1, 5)

local found = ffi.new("ngx_http_lua_ffi_table_elt_t[?]", LIMIT)
local truncated = ffi.new("int[1]")
local used = ffi.new("double[?]", SHELVES)  -- in which turn a shelf was used last
local foremost = ffi.new("int[?]", SHELVES)  -- the first header on it
local following = ffi.new("int[?]", LIMIT)  -- the next one on the same shelf, -1 after the last
local values, turns, shelves, names = {}, {}, {}, 0
local turn, count, suspect = 0, 0, false

local M = { LIMIT = LIMIT, odd = nil }  -- ``odd``: what x-a8-target said

local function shelf_of(length, first)
    return band(length, 31) + lshift(band(first, 31), 5)
end

local function sort()
    for i = count - 1, 0, -1 do
        local key = found[i].key
        local data, length = key.data, tonumber(key.len)
        local first = data[0]
        local shelf = shelf_of(length, first)
        following[i] = used[shelf] == turn and foremost[shelf] or -1
        used[shelf], foremost[shelf] = turn, i
        if first == X and length > 5 and data[1] == DASH and (data[2] == A or data[2] == E) then
            suspect = true
        end
    end
end

-- Read the request's headers; false where there are more than LIMIT.
function M.read()
    local request = base.get_request()
    count = C.ngx_http_lua_ffi_req_get_headers_count(request, 0, truncated)
    turn, suspect = turn + 1, false
    if names > NAMES then
        values, turns, shelves, names = {}, {}, {}, 0
    end
    if count > LIMIT then
        count = 0
        return false
    end
    if count > 0 then
        C.ngx_http_lua_ffi_req_get_headers(request, found, count, 0)
        sort()
    end
    return true
end

local function drop()
    for i = 0, count - 1 do
        local key = found[i].key
        local name = text(key.data, key.len)
        if name:sub(1, 5) == "x-a8-" or name:sub(1, 8) == "x-envoy-" then
            if name == "x-a8-target" and not M.odd then
                M.odd = text(found[i].value.data, found[i].value.len)
            end
            ngx.req.clear_header(name)
            key.len = 0
        end
    end
end

-- Drop the request's headers that could forge the mesh's own words: x-a8-* and x-envoy-*.
function M.drop_forged()
    M.odd = nil
    if suspect then
        drop()
    end
end

local function is_named(i, name)
    local key = found[i].key
    return tonumber(key.len) == #name and text(key.data, key.len) == name
end

-- The values of one name in a row; cookies as one cookie header, as HTTP/2 has them put together.
local function joined(name, i)
    local between = name == "cookie" and "; " or ","
    local value
    repeat
        if is_named(i, name) then
            local one = text(found[i].value.data, found[i].value.len)
            value = value and value .. between .. one or one
        end
        i = following[i]
    until i < 0
    return value
end

local function look(name, shelf)
    if used[shelf] ~= turn then
        return nil
    end
    local i = foremost[shelf]
    if following[i] >= 0 then
        return joined(name, i)
    end
    return is_named(i, name) and text(found[i].value.data, found[i].value.len) or nil
end

-- Whether a content type is gRPC's; ``application/grpc-web`` is not, and is spoken in HTTP/1.1.
function M.is_grpc(content)
    if not content or sub(content, 1, 16) ~= "application/grpc" then
        return false
    end
    local after = byte(content, 17)
    return not after or after == PLUS
end

-- The value of a header (lower-case name) as rules see it, several in one; nil where there is none.
function M.get(name)
    local seen = turns[name]
    if seen == turn then
        return values[name] or nil
    elseif not seen then
        names, shelves[name] = names + 1, shelf_of(#name, byte(name))
    end
    local value = look(name, shelves[name])
    values[name], turns[name] = value or false, turn
    return value
end

-- The values of a header (lower-case name), one for each time that it came.
function M.all(name)
    local shelf, several = shelf_of(#name, byte(name)), {}
    local i = used[shelf] == turn and foremost[shelf] or -1
    while i >= 0 do
        if is_named(i, name) then
            several[#several + 1] = text(found[i].value.data, found[i].value.len)
        end
        i = following[i]
    end
    return several
end

return M
