-- nginx's variables for each call, without making strings of their names or of what they hold.

local ffi = require "ffi"
local base = require "resty.core.base"
require "resty.core.var"  -- declares the functions used here

local C, get_request = ffi.C, base.get_request

local PROBLEM = 256

local problem, problem_length = ffi.new("unsigned char[?]", PROBLEM), ffi.new("size_t[1]")
local value, length, reason = ffi.new("char *[1]"), ffi.new("size_t[1]"), ffi.new("char *[1]")

local M = {}

-- A variable, to be used with the other functions.
function M.named(name)
    return { name = name, lower = ffi.new("unsigned char[?]", #name) }
end

-- Set it to ``size`` bytes at ``text``, or to that string.
function M.set(which, text, size)
    local name = which.name
    problem_length[0] = PROBLEM
    return C.ngx_http_lua_ffi_var_set(
        get_request(), name, #name, which.lower, text, size or #text, problem, problem_length
    )
end

-- Where its bytes are and how many, until another is read; none where it has no value.
function M.get(which)
    local name = which.name
    local found = C.ngx_http_lua_ffi_var_get(
        get_request(), name, #name, ffi.cast("char *", which.lower), 0, value, length, reason
    )
    return value[0], found == 0 and tonumber(length[0]) or 0
end

-- What it holds, as a string.
function M.text(which)
    return ffi.string(M.get(which))
end

return M
