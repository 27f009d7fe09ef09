-- The request id and the trace of a call that came without: digits of the start of nginx, then 12 hexadecimal
-- ones, 4 of the worker and 8 that count. Unique, and cheap: written over those before. No secret. A trace is
-- never sampled here.

local ffi = require "ffi"
local variable = require "a8.variable"

local band, rshift = bit.band, bit.rshift

local STEP = 0x9E3779B1  -- odd, so that all numbers come before one comes again, and neighbours look unlike
local DIGITS = 12

local two = ffi.new("uint16_t[256]")  -- two digits each
for i = 0, 255 do
    ffi.copy(two + i, ("%02x"):format(i), 2)
end

local number = 0

-- A variable's text, with the places where the digits of each call are written, two at a time.
local function form(name, text, first, second)
    local kept = ffi.new("unsigned char[?]", #text, text)
    return {
        variable = variable.named(name),
        text = kept,
        length = #text,
        first = ffi.cast("uint16_t *", kept + first),
        second = ffi.cast("uint16_t *", kept + second),
    }
end

local id, parent

local function write(to, value)
    to[2] = two[rshift(value, 24)]
    to[3] = two[band(rshift(value, 16), 255)]
    to[4] = two[band(rshift(value, 8), 255)]
    to[5] = two[band(value, 255)]
end

local function fill(which, value)
    write(which.first, value)
    write(which.second, value)
end

local function set(which)
    fill(which, number)
    variable.set(which.variable, which.text, which.length)
end

local M = { run = "" }  -- ``run``: 20 hexadecimal digits that no other start of any nginx has

-- Begin anew, in a worker.
function M.start()
    local run, worker = M.run, ("%04x"):format(ngx.worker.pid() % 0x10000)
    local own = worker .. ("0"):rep(DIGITS - #worker)
    number = math.random(0, 0xFFFFFFFF)
    -- A UUID of version 4.
    local begins = ("%s-%s-4%s-a%s-"):format(run:sub(1, 8), run:sub(9, 12), run:sub(13, 15), run:sub(16, 18))
    id = form("a8_id", begins .. own, #begins, #begins)
    local trace, span = "00-" .. run, "-" .. run:sub(1, 4)
    parent = form("a8_parent", trace .. own .. span .. own .. "-00", #trace, #trace + DIGITS + #span)
end

-- Give the call at hand its own, where ``has_id`` and ``has_parent`` say that it came without; the number is
-- the call's.
function M.give(has_id, has_parent)
    number = (number + STEP) % 0x100000000
    if not has_id then
        set(id)
    end
    if not has_parent then
        set(parent)
    end
    return number
end

-- Add the id of the call of that number to a buffer.
function M.put(buffer, of)
    fill(id, of)
    buffer:putcdata(id.text, id.length)
end

return M
