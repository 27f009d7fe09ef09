-- Conditions: made once from the document, asked for each request.
-- A pattern is {name, kind, text}: "has" (present), "in", "is", "begins", "ends" need no expression engine.

local ffi = require "ffi"
local regex = require "resty.core.regex"

local find, sub = string.find, string.sub
local C = ffi.C

local OPTIONS = "j"  -- compiled by PCRE's own compiler: only so does its limit bound the time of a match

local M = {}

local kinds = {}

function kinds.has()
    return true
end

kinds["in"] = function(value, pattern)
    return find(value, pattern.text, 1, true) ~= nil
end

function kinds.is(value, pattern)
    return value == pattern.text
end

function kinds.begins(value, pattern)
    return sub(value, 1, pattern.length) == pattern.text
end

function kinds.ends(value, pattern)
    return sub(value, -pattern.length) == pattern.text
end

function kinds.regex(value, pattern)
    -- Below 0: not found, or the limit was hit, which counts as not found.
    return C.ngx_http_lua_ffi_exec_regex(pattern.program, pattern.flags, value, #value, 0) >= 0
end

local function compiled(patterns)
    local made = {}
    for i, each in ipairs(patterns) do
        local name, kind, text = each[1], each[2], each[3]
        local test = kinds[kind]
        if type(name) ~= "string" or type(text) ~= "string" or not test then
            error("a pattern that cannot be read", 0)
        end
        local pattern = { name = name, test = test, text = text, length = #text }
        if kind == "regex" then
            -- Held by this table and freed with it, where a cache by text would only grow.
            local program, problem, flags = regex.re_match_compile(text, OPTIONS)
            if not program then
                error(("the pattern for header %s cannot be used: %s"):format(name, problem), 0)
            end
            pattern.program, pattern.flags = program, flags
        end
        made[i] = pattern
    end
    return made
end

local function compiled_list(list)
    local made = {}
    for i, each in ipairs(list) do
        made[i] = compiled(each)
    end
    return made
end

-- What the document says of a condition, ready to be asked; nil: always true.
function M.condition(document)
    if not document then
        return nil
    end
    local any = {}
    for i, group in ipairs(document.any or {}) do
        any[i] = compiled_list(group)
    end
    return {
        headers = compiled(document.headers or {}),
        any = any,
        none = compiled_list(document.none or {}),
    }
end

local function all_found(patterns, get)
    for i = 1, #patterns do
        local pattern = patterns[i]
        local value = get(pattern.name)
        if value == nil or not pattern.test(value, pattern) then
            return false
        end
    end
    return true
end

local function one_found(list, get)
    for i = 1, #list do
        if all_found(list[i], get) then
            return true
        end
    end
    return false
end

-- Whether the request whose headers ``get`` reads meets the condition.
function M.holds(condition, get)
    if condition == nil then
        return true
    end
    if not all_found(condition.headers, get) then
        return false
    end
    for i = 1, #condition.any do
        if not one_found(condition.any[i], get) then
            return false
        end
    end
    return not one_found(condition.none, get)
end

-- The first entry that is in force at ``now`` and whose condition holds.
function M.first(entries, get, now)
    for i = 1, #entries do
        local entry = entries[i]
        if (not entry.expires or entry.expires > now) and (not entry.match or M.holds(entry.match, get)) then
            return entry
        end
    end
    return nil
end

return M
