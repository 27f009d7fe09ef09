-- The order of decisions for one request: service, route, access, limits, headers, version, mirror, instance.
-- Then the faults of the first attempt, which are slept and answered here; later ones meet ``attempt``.

local address = require "a8.address"
local apply = require "a8.apply"
local context = require "a8.context"
local fault = require "a8.fault"
local grpc = require "a8.grpc"
local headers = require "a8.headers"
local limit = require "a8.limit"
local match = require "a8.match"
local pick = require "a8.pick"
local record = require "a8.record"
local refuse = require "a8.refuse"

local first, holds, get = match.first, match.holds, headers.get

local RETRIES = 2
local COPIES = 4
local BODY_KEPT = 65536
local BODY_COPIED = 1048576
local IDEMPOTENT = { GET = true, HEAD = true, PUT = true, DELETE = true, OPTIONS = true, TRACE = true }
local SENDS = { PUT = true, POST = true, PATCH = true }
local started = ngx.now()

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

local function change_headers(entry)
    for _, name in ipairs(entry.remove) do
        ngx.req.clear_header(name)
    end
    for _, pair in ipairs(entry.set) do
        -- An empty value would remove it; space around a value means nothing.
        ngx.req.set_header(pair[1], pair[2] ~= "" and pair[2] or " ")
        if pair[1] == "host" then
            ngx.var.a8_host = pair[2]
        end
    end
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

local function note(rules, rule)
    if rule ~= "" then
        rules[#rules + 1] = rule
    end
end

-- Whether the whole body is known to come, and to be no longer than ``most`` bytes.
local function is_short(most)
    local length = get("content-length")
    if length then
        return (tonumber(length) or 0) <= most
    elseif get("transfer-encoding") then
        return false
    end
    -- HTTP/2 may send a body without saying so.
    return ngx.req.http_version() < 2 or not SENDS[ngx.req.get_method()]
end

-- A copy needs the whole body before the call itself goes on: streams would wait, long bodies pile up.
local function may_be_copied(call)
    return not call.grpc and not get("upgrade") and is_short(BODY_COPIED)
end

-- What becomes of the request: a call, or nil and the arguments of a refusal.
local function decide(now)
    local tables = apply.tables
    local target = ngx.var.request_uri
    if not tables then
        local segment = target:match("^/?([^/?]*)")
        return nil, "unavailable", segment, segment, ""
    end
    local service, path, outer = address.find(tables, target, get, now)
    if not service then
        return nil, "unknown", path, path, ""
    end
    local route = outer or first(service.routes, get, now)
    if service.access[1] then
        local entry = denied(service, now)
        if entry then
            return nil, "denied", service.name, service.key, entry.rule
        end
    end
    local rules = {}
    note(rules, route.rule)
    if service.limits[1] then
        local entry = first(service.limits, get, now)
        if entry then
            if not limit.passes(entry, get, ngx.now() - started) then
                return nil, "limited", service.name, service.key, entry.rule, entry
            end
            note(rules, entry.rule)
        end
    end
    local slice = pick.slice(route, get)
    local call = { service = service, route = route, slice = slice, target = slice.target, path = path }
    if service.traces[1] then
        local entry = first(service.traces, get, now)
        local traces = entry and entry.acts[slice.target]
        if traces and traces[1] then
            call.traces = traces
            note(rules, entry.rule)
        end
    end
    if service.faults[1] then
        local entry = first(service.faults, get, now)
        call.acts = entry and entry.acts[slice.target]
        if call.acts then
            note(rules, entry.rule)
        end
    end
    local content = get("content-type")
    call.grpc = content ~= nil and content:sub(1, 16) == "application/grpc"
    if service.mirrors[1] then
        local entry = first(service.mirrors, get, now)
        if entry then
            call.copies = may_be_copied(call) and copy(entry, now) or nil
            note(rules, entry.rule)
        end
    end
    local retries = slice.retries
    if retries == nil then
        call.retries_left = RETRIES
    else
        call.retries_left = retries
        call.on_5xx = retries > 0 and IDEMPOTENT[ngx.req.get_method()] and is_short(BODY_KEPT) or false
    end
    if slice.timeout then
        call.deadline = now + slice.timeout
    end
    local accept = get("accept")
    call.streams = call.grpc or get("upgrade") ~= nil
        or (accept ~= nil and accept:find("text/event-stream", 1, true) ~= nil)
    if service.headers[1] then
        local entry = first(service.headers, get, now)
        if entry then
            change_headers(entry)
            note(rules, entry.rule)
        end
    end
    record.note(rules, call.traces)
    return call
end

-- The attempts that faults decide alone. True: the call goes on to its instance.
local function pass_faults(call)
    while true do
        local held, status = fault.throw(call.acts)
        if held > 0 then
            local left = call.deadline and call.deadline - ngx.now()
            ngx.var.a8_fired = "true"
            ngx.sleep(left and math.max(math.min(held, left), 0) or held)
            if left and held >= left then
                return false, 504
            end
        end
        if not status then
            return true
        end
        ngx.var.a8_fired = "true"
        if not fault.retryable(status, call) then
            return false, status
        end
        call.retries_left = call.retries_left - 1
        call.attempts = (call.attempts or 0) + 1
    end
end

local function place_of(call)
    local name = "@a8"
    if call.grpc then
        name = name .. "_grpc"
    elseif call.on_5xx then
        name = name .. "_retry"
    end
    if call.target.tls then
        name = name .. "_tls"
    end
    if call.copies then
        name = name .. "_copy"
    end
    return name
end

local function set_copies(copies)
    local var = ngx.var
    for i = 1, COPIES do
        local peer = copies[i]
        local name = "a8_copy" .. i
        var[name] = peer and (peer.tls and "https://" or "http://") .. peer.place or ""
        var[name .. "_host"] = peer and (peer.host or var.a8_host) or ""
        var[name .. "_sni"] = peer and peer.name or ""
    end
end

-- The handler of every request: lets it go on to its instance, or answers it.
function M.handle()
    if not headers.read() then
        return ngx.exit(431)
    end
    headers.drop_forged()
    local call, kind, service, key, rule, entry = decide(ngx.now())
    context.set(call)
    local var = ngx.var
    if not call then
        if entry then
            ngx.header["retry-after"] = limit.retry_after(entry)
        end
        if rule ~= "" then
            var.a8_rule = rule
        end
        return refuse.answer(kind, service, key, rule)
    end
    var.a8_path = call.path
    if call.acts then
        var.a8_dst = call.target.service
        local goes_on, status = pass_faults(call)
        if not goes_on then
            if status == -1 then
                return refuse.close()
            end
            return refuse.failed(status)
        end
    end
    local peer = pick.peer(call.target, ngx.now())
    if not peer then
        return refuse.answer("unavailable", call.service.name, call.service.key, call.route.rule)
    end
    call.peer = peer
    var.a8_dst = peer.dst
    if not (call.grpc or call.on_5xx or call.deadline or call.target.tls or call.copies) then
        return nil
    end
    if call.copies then
        set_copies(call.copies)
    end
    if call.grpc then
        grpc.set_path(call.path)
    end
    return ngx.exec(place_of(call))
end

return M
