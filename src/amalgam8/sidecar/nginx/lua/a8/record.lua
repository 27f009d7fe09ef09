-- The access record: one line of JSON for each call, put together at its end, its times in milliseconds. Lua
-- knows most of what it says; the rest nginx says in one variable. Pieces that come again are kept, since a
-- line is as dear as the pieces that it is made of.

local bit = require "bit"
local cjson = require "cjson.safe"
local ffi = require "ffi"
local ids = require "a8.ids"
local lines = require "a8.lines"
local variable = require "a8.variable"

local C, tobit = ffi.C, bit.tobit
local encode, floor, sub = cjson.encode, math.floor, string.sub

ffi.cdef [[
    size_t strcspn(const char *text, const char *any);
]]

local UNSAFE = '"\\\127'  -- in a string of JSON; what is below a space, too
for code = 1, 31 do
    UNSAFE = UNSAFE .. string.char(code)
end
local QUOTE, ZERO, POINT = ('"0.'):byte(1, 3)
local QUICK = #"0.123"  -- seconds, as nginx says them
local KEPT, LONG = 1000, 200
local NONE = "-"  -- stands for what is missing
local NOTHING = '"bytes_received":0,'

local ended = variable.named("a8_ended")

local source = ""
local all, traced

local M = {}

-- Begin, in a worker. ``caller`` as it is called; ``file`` nil: only calls that are traced have records.
function M.start(caller, file, traces)
    source = encode(caller)
    all, traced = file and lines.to(file), lines.to(traces)
end

-- What there is to say of a call beyond what most have, to be added to: flags, fault, rules, traces, and the
-- service alone as ``dst``.
function M.of(call)
    local said = call.said
    if not said then
        said = {}
        call.said = said
    end
    return said
end

-- Note the first ``count`` rules, which acted in this order.
function M.rules(call, rules, count)
    if count == 1 then
        call.rule = rules[1]
        return
    end
    local named = {}
    for i = 1, count do
        named[i] = rules[i]
    end
    M.of(call).rules = named
end

-- ``make``, but asked once for the same text while that is known. Texts are forgotten when they are many.
local function kept(make)
    local found, count = {}, 0
    return function(text)
        local made = found[text]
        if made then
            return made
        end
        made = make(text)
        if #text < LONG then
            if count >= KEPT then
                found, count = {}, 0
            end
            found[text], count = made, count + 1
        end
        return made
    end
end

-- As it stands between the quotes of JSON.
local safe = kept(function(text)
    return C.strcspn(text, UNSAFE) == #text and text or sub(encode(text), 2, -2)
end)

local function code_of(status)
    return ("%03d"):format(status)
end

local heads = setmetatable({}, {
    __index = function(known, status)
        known[status] = '{"status":"' .. code_of(status) .. '","request_time":'
        return known[status]
    end,
})

local tails = setmetatable({}, {
    __index = function(known, status)
        known[status] = kept(function(rule)
            return " " .. code_of(status) .. '","rules":["' .. safe(rule) .. '"]'
        end)
        return known[status]
    end,
})

local function message(method)
    return function(auth)
        return '","auth":"' .. safe(auth) .. '","method":"' .. method .. '","message":"' .. method .. " "
    end
end

local messages = {}
for _, method in ipairs({ "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS" }) do
    messages[method] = kept(message(method))
end

-- There is no end to methods that clients may think of, and nothing is kept of those.
setmetatable(messages, { __index = function(_, method) return message(method) end })

local agent_of = kept(function(text)
    return '","user_agent":"' .. safe(text) .. '","x_forwarded":"'
end)

local function where(dst, host)
    return (',"src":%s,"dst":"%s","module":"NGINX","upstream_host":"%s",'):format(source, safe(dst), host)
end

-- Where the call went, or should have gone.
local function where_of(call, attempts)
    local peer = call.peer
    if attempts == 1 and peer and not peer.doors and not call.hopped then
        peer.said = peer.said or where(peer.dst, peer.place)
        return peer.said
    end
    local dst = peer and peer.dst or call.said and call.said.dst or NONE
    return where(dst, ngx.var.upstream_addr or NONE)
end

local second, of_second = 0, ""

-- When the call began, but for the last three digits.
local function start_of(moment)
    if moment ~= second then
        second, of_second = moment, '","start_time":"' .. os.date("!%Y-%m-%dT%H:%M:%S.", moment)
    end
    return of_second
end

local thousandths = setmetatable({}, {
    __index = function(known, number)
        known[number] = ("%03d"):format(number)
        return known[number]
    end,
})

-- How it went.
local function course(attempts, flags, fault)
    return ('Z","attempts":%d,"response_flags":"%s","fault":%s,"path":"'):format(
        attempts, flags, fault and "true" or "false"
    )
end

local well = course(1, NONE, false)

local function course_of(said, attempts)
    if said or attempts ~= 1 then
        return course(attempts, said and said.flags or NONE, said and said.fault)
    end
    return well
end

-- nginx's variable begins with the protocol, another than ``spoken`` where the call was sent once more, and
-- ends with the times until the answers of all attempts began; the last one counts.
local function put_ended(to, spoken)
    local text, length = variable.get(ended)
    local at = length - QUICK
    if not spoken and at > 0 and text[at - 1] == QUOTE and text[at] == ZERO and text[at + 1] == POINT then
        to:putcdata(text, at)
        to:put(tobit((text[at + 2] - ZERO) * 100 + (text[at + 3] - ZERO) * 10 + text[at + 4] - ZERO))
        return
    end
    local before, times = ffi.string(text, length):match('^(.*")([^"]*)$')
    local seconds, part = times:match("(%d+)%.(%d+)$")
    if spoken then
        before = before:gsub("HTTP/[%d.]+", spoken, 1)
    end
    to:put(before, seconds and tonumber(seconds) * 1000 + tonumber(part) or NONE)
end

-- How much of the body came. nginx counts what stands around it, too: the head, whose length the call knows,
-- and the lengths of its parts, which it also counts without.
local function received(call)
    local var = ngx.var
    local length = var.http_transfer_encoding and tonumber(var.content_length)
    return ('"bytes_received":%d,'):format(length or tonumber(var.request_length) - call.head)
end

-- What the request itself says, for one that was refused before it was looked at.
local function read(call)
    local var = ngx.var
    call.id = var.a8_id ~= "" and var.a8_id or var.http_x_request_id or NONE
    call.asked, call.auth = var.request_uri or "", var.http_host or false
    call.agent, call.forwarded = var.http_user_agent or false, var.http_x_forwarded_for or false
end

local function put_line(to, call, attempts, started, now)
    local said, status = call.said, ngx.status
    local method, path = ngx.req.get_method() or "", safe(call.asked)
    local tail = tails[status](call.rule)
    to:put(heads[status], tobit(floor((now - started) * 1000 + 0.5)), where_of(call, attempts))
    to:put(call.head and received(call) or NOTHING)
    put_ended(to, call.spoken)
    local moment = floor(started)
    to:put(start_of(moment), thousandths[floor((started - moment) * 1000 + 0.5) % 1000])
    to:put(course_of(said, attempts), path, agent_of(call.agent or NONE))
    to:put(safe(call.forwarded or NONE), '","request_id":"')
    if call.id then
        to:put(safe(call.id))
    else
        ids.put(to, call.number)
    end
    to:put(messages[method](call.auth or NONE), path)
    if not said then
        to:put(tail, "}\n")
        return
    end
    if said.rules then
        to:put(" ", code_of(status), '","rules":', encode(said.rules))
    else
        to:put(tail)
    end
    for _, trace in ipairs(said.traces or {}) do
        to:put(",", encode(trace.key), ":", encode(trace.value or ""))
    end
    to:put("}\n")
end

-- Write the record of a call that ends ``now``.
function M.write(call, attempts, started, now)
    if not call.asked then
        read(call)
    end
    if all then
        put_line(all.text, call, attempts, started, now)
        lines.added(all)
    end
    if call.said and call.said.traces then
        put_line(traced.text, call, attempts, started, now)
        lines.added(traced)
    end
end

return M
