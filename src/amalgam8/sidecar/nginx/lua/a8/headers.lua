-- The headers of the request at hand, read once and without making strings of those that nobody asks for.
-- Valid until the handler yields: what is needed later has to be taken before.
-- What was found is kept from request to request with its turn: to change an entry costs less than to add it.

local ffi = require "ffi"
local base = require "resty.core.base"
require "resty.core.request"  -- declares the functions used here

local C, text, byte = ffi.C, ffi.string, string.byte

local LIMIT = 200
local NAMES = 1000  -- rules may have asked for any, and for others before
local X, DASH, A, E = byte("x-ae", 1, 4)

local found = ffi.new("ngx_http_lua_ffi_table_elt_t[?]", LIMIT)
local truncated = ffi.new("int[1]")
local values, turns, names = {}, {}, 0
local turn, count = 0, 0

local M = { LIMIT = LIMIT, odd = nil }  -- ``odd``: what x-a8-target said

-- Read the request's headers; false where there are more than LIMIT.
function M.read()
    local request = base.get_request()
    count = C.ngx_http_lua_ffi_req_get_headers_count(request, 0, truncated)
    turn = turn + 1
    if names > NAMES then
        values, turns, names = {}, {}, 0
    end
    if count > LIMIT then
        count = 0
        return false
    end
    if count > 0 then
        C.ngx_http_lua_ffi_req_get_headers(request, found, count, 0)
    end
    return true
end

-- Drop the request's headers that could forge the mesh's own words: x-a8-* and x-envoy-*.
function M.drop_forged()
    M.odd = nil
    for i = 0, count - 1 do
        local key = found[i].key
        local data, length = key.data, tonumber(key.len)
        if length > 5 and data[0] == X and data[1] == DASH and (data[2] == A or data[2] == E)
            and (text(data, 5) == "x-a8-" or length > 8 and text(data, 8) == "x-envoy-")
        then
            local name = text(data, length)
            if name == "x-a8-target" and not M.odd then
                M.odd = text(found[i].value.data, found[i].value.len)
            end
            ngx.req.clear_header(name)
            key.len = 0
        end
    end
end

local function look(name)
    local value
    local length, first = #name, byte(name, 1)
    for i = 0, count - 1 do
        local header = found[i]
        local key = header.key
        if tonumber(key.len) == length and key.data[0] == first and text(key.data, length) == name then
            local one = text(header.value.data, header.value.len)
            if value then
                value = value .. "," .. one
            else
                value = one
            end
        end
    end
    return value
end

-- The value of a header (lower-case name) as rules see it, several in one; nil where there is none.
function M.get(name)
    local seen = turns[name]
    if seen == turn then
        return values[name] or nil
    elseif not seen then
        names = names + 1
    end
    local value = look(name)
    values[name], turns[name] = value or false, turn
    return value
end

return M
