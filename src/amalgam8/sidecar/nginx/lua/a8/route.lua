-- The order of decisions for one request: service, route, access, limits, headers, version, mirror, instance.
-- Then the faults of the first attempt, which are slept and answered here; later ones meet ``attempt``.

local address = require "a8.address"
local apply = require "a8.apply"
local calls = require "a8.call"
local context = require "a8.context"
local copies = require "a8.copies"
local fault = require "a8.fault"
local grpc = require "a8.grpc"
local headers = require "a8.headers"
local ids = require "a8.ids"
local limit = require "a8.limit"
local match = require "a8.match"
local odd = require "a8.odd"
local pick = require "a8.pick"
local record = require "a8.record"
local refuse = require "a8.refuse"
local slots = require "a8.slots"
local variable = require "a8.variable"
local whole = require "a8.whole"

local first, holds, get = match.first, match.holds, headers.get
local find = string.find

local RETRIES = 2
local BODY_KEPT = 262144
local BODY_COPIED = 1048576
local FEW_COPIES = 4
local IDEMPOTENT = { GET = true, HEAD = true, PUT = true, DELETE = true, OPTIONS = true, TRACE = true }
local started = ngx.now()
local asked_uri, sent_path = variable.named("request_uri"), variable.named("a8_path")

local M = {}

local function denied(service, now)
    local allowed, guard = false, nil
    for _, entry in ipairs(service.access) do
        if not entry.expires or entry.expires > now then
            if entry.verdict ~= "deny" then
                guard = guard or entry
            end
            if entry.verdict ~= "guard" and holds(entry.match, get) then
                if entry.verdict == "deny" then
                    return entry
                end
                allowed = true
            end
        end
    end
    return guard and not allowed and guard or nil
end

-- Gives the host, where it is one of them.
local function change_headers(entry)
    local host = false
    for _, name in ipairs(entry.remove) do
        ngx.req.clear_header(name)
    end
    for _, pair in ipairs(entry.set) do
        -- An empty value would remove it; space around a value means nothing.
        ngx.req.set_header(pair[1], pair[2] ~= "" and pair[2] or " ")
        if pair[1] == "host" then
            host = pair[2]
        end
    end
    return host
end

local function copy(entry, now)
    local places = {}
    for _, mirror in ipairs(entry.mirrors) do
        if math.random() * 100 < (mirror.percent or 100) then
            local peer = mirror.target and pick.peer(mirror.target, now)
            if peer then
                places[#places + 1] = peer
            end
        end
    end
    return places[1] and places or nil
end

-- The rules that act on the call at hand, in order; the list is used again for the next call.
local rules, rules_count = {}, 0

local function note(rule)
    if rule ~= "" then
        rules_count = rules_count + 1
        rules[rules_count] = rule
    end
end

-- Whether the whole body is known to come, and to be no longer than ``most`` bytes.
local function is_short(most)
    local length = get("content-length")
    if length then
        return (tonumber(length) or 0) <= most
    end
    return not whole.is_open(get)
end

-- A copy needs the whole body before the call itself goes on: streams would wait, long bodies pile up.
local function may_be_copied(call)
    return not call.grpc and not call.upgrade and is_short(BODY_COPIED)
end

-- Note what makes the call other than most: its own nature, and what its slice says. Calls that stream, gRPC,
-- an upgrade, or events, may be silent for long.
local function mark(call, slice, now)
    local content, accept = get("content-type"), get("accept")
    if headers.is_grpc(content) then
        call.grpc, call.streams = true, true
    end
    if get("upgrade") then
        call.upgrade, call.streams = true, true
    end
    if accept and accept ~= "*/*" and find(accept, "text/event-stream", 1, true) then
        call.streams = true
    end
    if slice.timeout then
        call.deadline = now + slice.timeout
    end
    if slice.retries and slice.retries > 0 and IDEMPOTENT[ngx.req.get_method()] and is_short(BODY_KEPT) then
        call.on_5xx = true
    end
end

-- What rules beyond the route do to the call: traces, faults, mirrors, headers.
local function act(service, call, now)
    local target = call.target
    local entry = service.traces[1] and first(service.traces, get, now)
    local traces = entry and entry.acts[target]
    if traces and traces[1] then
        record.of(call).traces = traces
        note(entry.rule)
    end
    entry = service.faults[1] and first(service.faults, get, now)
    call.acts = entry and entry.acts[target] or false
    if call.acts then
        note(entry.rule)
    end
    entry = service.mirrors[1] and first(service.mirrors, get, now)
    if entry then
        call.copies = may_be_copied(call) and copy(entry, now) or false
        note(entry.rule)
    end
    entry = service.headers[1] and first(service.headers, get, now)
    if entry then
        call.own_host = change_headers(entry)
        note(entry.rule)
    end
end

-- A refusal of a known service's call, by a rule or none.
local function refusal(kind, service, rule)
    local call = calls.new()
    call.service = service
    return call, { reason = kind, name = service.name, key = service.key, rule = rule }
end

local function refusal_by_name(kind, name)
    return calls.new(), { reason = kind, name = name, key = name, rule = "" }
end

-- What becomes of the request: a call, and how it is refused if it is. nil: its body comes first.
local function decide(target, now)
    local tables = apply.tables
    if not tables then
        return refusal_by_name("unavailable", target:match("^/?([^/?]*)"))
    end
    local service, path, outer = address.find(tables, target, get, now)
    if not service then
        return refusal_by_name("unknown", path)
    end
    if service.repeats and whole.wanted(get) and (service.mirrors[1] or IDEMPOTENT[ngx.req.get_method()]) then
        return nil
    end
    local route = outer or first(service.routes, get, now)
    if service.access[1] then
        local entry = denied(service, now)
        if entry then
            return refusal("denied", service, entry.rule)
        end
    end
    rules_count = 0
    note(route.rule)
    if service.limits[1] then
        local entry = first(service.limits, get, now)
        if entry then
            if not limit.passes(entry, get, ngx.now() - started) then
                ngx.header["retry-after"] = limit.retry_after(entry)
                return refusal("limited", service, entry.rule)
            end
            note(entry.rule)
        end
    end
    local slice = pick.slice(route)
    local call = calls.new()
    call.service, call.route, call.target, call.path = service, route, slice.target, path
    call.retries_left = slice.retries or RETRIES
    mark(call, slice, now)
    if service.acts then
        act(service, call, now)
    end
    if rules_count > 0 then
        record.rules(call, rules, rules_count)
    end
    return call
end

-- The attempts that faults decide alone. True: the call goes on to its instance.
local function pass_faults(call)
    while true do
        local held, status = fault.throw(call.acts)
        if held > 0 then
            local left = call.deadline and call.deadline - ngx.now()
            local said = record.of(call)
            said.fault, said.flags = true, "DI"
            ngx.sleep(left and math.max(math.min(held, left), 0) or held)
            if left and held >= left then
                said.flags = "DI,UT"
                return false, 504
            end
        end
        if not status then
            return true
        end
        local said = record.of(call)
        said.fault, said.flags = true, held > 0 and "DI,FI" or "FI"
        if not fault.retryable(status, call) then
            return false, status
        end
        call.retries_left = call.retries_left - 1
        call.faults = call.faults + 1
    end
end

-- Whether the first location will do, which costs less and has what a plain call needs.
local function is_plain(call)
    local target = call.target
    return not (call.grpc or call.upgrade or call.on_5xx or call.deadline or call.acts or call.copies
        or call.own_host or target.tls or target.named)
end

local function place_of(call)
    local name = "@a8"
    if call.grpc then
        name = name .. "_grpc"
    elseif call.on_5xx and call.retries_left > 0 then
        name, call.kept = name .. "_retry", 1  -- for where its answer passes, whatever it is
    end
    if call.target.tls then
        name = name .. "_tls"
    end
    if call.copies then
        name = name .. (call.copies[FEW_COPIES + 1] and "_copies" or "_copy")
    end
    return name
end

-- Wait for a connection where a rule limits them; false: the call was answered.
local function pass_limits(call)
    local inside, problem = slots.enter(call.target, call.deadline)
    call.inside = inside or false
    if problem == "late" then
        record.of(call).flags = "UT"
        refuse.failed(504)
    elseif problem then
        refuse.call(call, "UO")
    end
    return inside
end

-- Give a call its id and its trace, or keep those that it came with, and note what its record says of the
-- request.
local function identify(call, var)
    local id, parent = get("x-request-id") or "", get("traceparent") or ""
    if id ~= "" then
        call.id = var.http_x_request_id
        var.a8_id = call.id
    end
    if parent ~= "" then
        var.a8_parent = var.http_traceparent
    end
    call.number = ids.give(id ~= "", parent ~= "")
    call.agent, call.forwarded = get("user-agent") or false, get("x-forwarded-for") or false
    call.auth = get("host") or false
    call.head = whole.may_come(get) and tonumber(var.request_length) or false
end

-- The handler of every request: lets it go on to its instance, or answers it.
function M.handle()
    if not headers.read() then
        return ngx.exit(431)
    end
    headers.drop_forged()
    local var, now = ngx.var, ngx.now()
    local asked, spoken = odd.target()
    asked = asked or variable.text(asked_uri)
    local call, refused = decide(asked, now)
    if not call then
        return ngx.exec("@a8_whole")
    end
    call.asked, call.spoken = asked, spoken or false
    identify(call, var)
    context.set(call)
    if refused then
        return refuse.answer(call, refused)
    end
    variable.set(sent_path, call.path)
    local plain = is_plain(call)
    if not plain then
        var.a8_host = call.own_host or get("host") or ""
    end
    if call.acts then
        record.of(call).dst = call.target.service
        local goes_on, status = pass_faults(call)
        now = ngx.now()
        if not goes_on then
            if status == -1 then
                return refuse.close()
            end
            return refuse.failed(status)
        end
    end
    if call.target.limited and not pass_limits(call) then
        return nil
    end
    local peer = pick.peer(call.target, now)
    if not peer then
        return refuse.call(call, "UH")
    end
    call.peer = peer
    if plain then
        return nil
    end
    if call.copies then
        copies.set(call.copies)
    end
    if call.grpc then
        grpc.set_path(call.path)
    end
    return ngx.exec(place_of(call))
end

return M
