-- The headers of the request at hand, read once and without making strings of those that nobody asks for.
-- Valid until the handler yields: what is needed later has to be taken before.

local ffi = require "ffi"
local base = require "resty.core.base"
require "resty.core.request"  -- declares the functions used here
local clear = require "table.clear"

local C, text = ffi.C, ffi.string

local LIMIT = 200
local FORGED = { ["x-a8-"] = true, ["x-envoy-"] = true }
local X, DASH = 120, 45

local found = ffi.new("ngx_http_lua_ffi_table_elt_t[?]", LIMIT)
local truncated = ffi.new("int[1]")
local values = {}
local count = 0

local M = { LIMIT = LIMIT }

-- Read the request's headers; false where there are more than LIMIT.
function M.read()
    local request = base.get_request()
    count = C.ngx_http_lua_ffi_req_get_headers_count(request, 0, truncated)
    clear(values)
    if count > LIMIT then
        count = 0
        return false
    end
    if count > 0 then
        C.ngx_http_lua_ffi_req_get_headers(request, found, count, 0)
    end
    return true
end

-- Drop the request's headers that could forge the mesh's own words.
function M.drop_forged()
    for i = 0, count - 1 do
        local key = found[i].key
        if key.len > 5 and key.data[0] == X and key.data[1] == DASH then
            local name = text(key.data, key.len)
            if FORGED[name:match("^x%-[^-]*%-")] then
                ngx.req.clear_header(name)
                found[i].key.len = 0
            end
        end
    end
end

-- The value of a header (lower-case name) as rules see it, several in one; nil where there is none.
function M.get(name)
    local value = values[name]
    if value ~= nil then
        return value or nil
    end
    local length = #name
    for i = 0, count - 1 do
        local header = found[i]
        if tonumber(header.key.len) == length and text(header.key.data, length) == name then
            local one = text(header.value.data, header.value.len)
            if value then
                value = value .. "," .. one
            else
                value = one
            end
        end
    end
    values[name] = value or false
    return value
end

return M
