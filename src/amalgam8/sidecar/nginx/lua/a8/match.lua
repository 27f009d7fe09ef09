-- Conditions: made once from the document, asked for each request.
-- A pattern is {name, kind, text}: "has" (present), "in", "is", "begins", "ends" need no expression engine.
-- A "regex" may have a fourth part, a text without which it cannot be found and which is looked for first.

local ffi = require "ffi"
local regex = require "resty.core.regex"

local find, sub = string.find, string.sub
local C = ffi.C

local OPTIONS = "j"  -- compiled by PCRE's own compiler: only so does its limit bound the time of a match
local HAS, IN, IS, BEGINS, ENDS, REGEX = 1, 2, 3, 4, 5, 6
local KINDS = { has = HAS, ["in"] = IN, is = IS, begins = BEGINS, ends = ENDS, regex = REGEX }

local M = {}

-- Whether the pattern is found in the value. One function with branches, since it runs compiled that way.
local function found(pattern, value)
    local kind, text = pattern.kind, pattern.text
    if kind == REGEX then
        local needle = pattern.needle
        if needle and not find(value, needle, 1, true) then
            return false
        end
        -- Below 0: not found, or the limit was hit, which counts as not found.
        return C.ngx_http_lua_ffi_exec_regex(pattern.program, pattern.flags, value, #value, 0) >= 0
    elseif kind == IN then
        return find(value, text, 1, true) ~= nil
    elseif kind == IS then
        return value == text
    elseif kind == BEGINS then
        return sub(value, 1, #text) == text
    elseif kind == ENDS then
        return sub(value, -#text) == text
    end
    return true
end

local function compiled(patterns)
    local made = {}
    for i, each in ipairs(patterns) do
        local name, kind, text, needle = each[1], KINDS[each[2]], each[3], each[4]
        if type(name) ~= "string" or name == "" or type(text) ~= "string" or not kind then
            error("a pattern that cannot be read", 0)
        end
        local pattern = { name = name, kind = kind, text = text }
        if kind == REGEX then
            -- Held by this table and freed with it, where a cache by text would only grow.
            local program, problem, flags = regex.re_match_compile(text, OPTIONS)
            if not program then
                error(("the pattern for header %s cannot be used: %s"):format(name, problem), 0)
            end
            pattern.program, pattern.flags = program, flags
            pattern.needle = type(needle) == "string" and needle ~= "" and needle or nil
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
    local condition = {
        headers = compiled(document.headers or {}),
        any = any,
        none = compiled_list(document.none or {}),
    }
    if #condition.headers == 1 and not any[1] and not condition.none[1] then
        condition.only = condition.headers[1]  -- most conditions are of this form
    end
    return condition
end

local function all_found(patterns, get)
    for i = 1, #patterns do
        local pattern = patterns[i]
        local value = get(pattern.name)
        if value == nil or not found(pattern, value) then
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

-- What a value has to contain for the pattern to be found in it, as far as that is known.
local function contained(pattern)
    if pattern.kind == REGEX then
        return pattern.needle or ""
    end
    return pattern.kind ~= HAS and pattern.text or ""
end

local function common(one, other)
    local length = math.min(#one, #other)
    while sub(one, 1, length) ~= sub(other, 1, length) do
        length = length - 1
    end
    return sub(one, 1, length)
end

-- Let entries that follow one another and ask for one header alone stand behind one look at it: where it is
-- absent, or lacks what all of them begin with, ``first`` goes on after them.
function M.gather(entries)
    local leader
    for i, entry in ipairs(entries) do
        local only = entry.match and entry.match.only
        if leader and only and only.name == leader.name then
            leader.text, leader.past = common(leader.text, contained(only)), i + 1
            entries[leader.at].look = leader
        else
            leader = only and { name = only.name, text = contained(only), at = i }
        end
    end
end

-- Whether none of the entries behind the look can hold.
local function is_over(look, get)
    local value = get(look.name)
    return value == nil or not find(value, look.text, 1, true)
end

-- Whether an entry holds for all requests at all times.
local function is_general(entry)
    return not (entry.look or entry.match or entry.expires)
end

local function search(entries, get, now)
    local i, count = 1, #entries
    while i <= count do
        local entry = entries[i]
        local look = entry.look
        if look and is_over(look, get) then
            i = look.past
        else
            i = i + 1
            local expires, condition = entry.expires, entry.match
            if not expires or expires > now then
                if not condition then
                    return entry
                end
                local only = condition.only
                if only then
                    local value = get(only.name)
                    if value and found(only, value) then
                        return entry
                    end
                elseif M.holds(condition, get) then
                    return entry
                end
            end
        end
    end
    return nil
end

-- The first entry that is in force at ``now`` and whose condition holds. What most calls come to, the first
-- entry or the one after those that ask for one header, is found without a loop: at a loop the compiler of
-- Lua begins anew, and what comes after it is not compiled with what was before.
function M.first(entries, get, now)
    local entry = entries[1]
    local look = entry and entry.look
    if look and is_over(look, get) then
        entry = entries[look.past]
    end
    if not entry or is_general(entry) then
        return entry
    end
    return search(entries, get, now)
end

return M
