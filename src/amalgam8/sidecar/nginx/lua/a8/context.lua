-- The call that a request of nginx makes, kept by the request's own address: unlike nginx's context, it
-- survives the way to another location, and costs less.

local ffi = require "ffi"
local base = require "resty.core.base"

local get_request, cast = base.get_request, ffi.cast
local address = ffi.typeof("intptr_t")

local calls = {}

local M = {}

local function here()
    return tonumber(cast(address, get_request()))
end

-- Keep the call of the request at hand; nil forgets it.
function M.set(call)
    calls[here()] = call
end

-- The call of the request at hand, nil where it makes none.
function M.get()
    return calls[here()]
end

-- The call of the request at hand, which is forgotten.
function M.take()
    local key = here()
    local call = calls[key]
    calls[key] = nil
    return call
end

return M
