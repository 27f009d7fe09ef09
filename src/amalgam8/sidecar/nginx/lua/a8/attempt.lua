-- Leads each attempt of a call to an instance, and ends the call where another attempt is not safe.
-- nginx asks again after a failure; whether that failure allows another attempt is decided here.

local balancer = require "ngx.balancer"
local context = require "a8.context"
local doors = require "a8.doors"
local eject = require "a8.eject"
local fault = require "a8.fault"
local pick = require "a8.pick"
local record = require "a8.record"
local refuse = require "a8.refuse"

local CONNECT, HEADERS, IDLE = 1, 15, 3600
local TURNS = 7
local POOL_IDLE = 4  -- below the 5 s after which common servers close, so that we close first

local M = { hop = "" }

local function element(list, wanted)
    local i = 0
    for each in (list or ""):gmatch("[^,:%s]+") do
        i = i + 1
        if i == wanted then
            return each
        end
    end
    return nil
end

-- How attempt ``i`` failed: "connect", "reset", "timeout", or "status" for an answer.
local function failure_of(i, status)
    local var = ngx.var
    if element(var.upstream_connect_time, i) == "-" then
        return "connect"
    elseif element(var.upstream_header_time, i) ~= "-" then
        return "status"
    end
    return status == 504 and "timeout" or "reset"
end

local function give_up(call, failure)
    call.failure = failure
    return ngx.exit(ngx.ERROR)
end

local function take_hop(call, peer, held, status, masked)
    local scheme = peer.tls and "https://" or "http://"
    local way = masked and "masked" or "plain"
    ngx.var.a8_hop = ("%g %d %s%s %s %s"):format(held, status or 0, scheme, peer.place, peer.name, way)
    call.hopped = true
end

-- The instance that takes the call after a failure of ``call.peer``, with the faults of its attempt; nil: no
-- further attempt is allowed, or ``kept`` are all that is left. The second result: the request has changed.
local function next_peer(call, failure, now, kept)
    if failure == "connect" then
        if not call.hopped and doors.refused(call, call.peer, now) then
            return call.peer, false
        end
        eject.leave_out(call.peer.place)
    elseif not call.on_5xx or failure == "timeout" or (call.deadline and call.deadline <= now) then
        return nil
    end
    if call.retries_left <= kept then
        return nil
    end
    call.retries_left = call.retries_left - 1
    call.tried = call.tried or {}
    call.tried[call.peer] = true
    local peer = pick.peer(call.target, now, call.tried)
    if not peer then
        return nil
    end
    if call.target.resilience and failure ~= "connect" then
        eject.count(call.target, call.peer, true)
    end
    call.peer = peer
    local held, abort = 0, nil
    if call.acts then
        held, abort = fault.throw(call.acts)
    end
    local changed, masked = call.hopped, call.masked and call.retries_left > 0
    call.begun = call.begun + held  -- what is injected is not counted
    if held > 0 or abort or masked then
        take_hop(call, peer, held, abort, masked)
        changed = true
    elseif call.hopped then
        ngx.var.a8_hop, call.hopped = "", false
    end
    if peer.host or peer.tls or call.host then
        M.name(call, peer)
        changed = true
    end
    return peer, changed
end

-- Choose anew after a failure that nginx goes on from by itself; nil: it does not.
local function again(call, now)
    local _, status = balancer.get_last_failure()
    local failure = failure_of(call.attempt - 1, status)
    local peer, changed = next_peer(call, failure, now, call.kept)
    if not peer then
        return give_up(call, failure)
    end
    if changed then
        balancer.recreate_request()
    end
    return peer
end

-- Host and TLS name of the attempt.
function M.name(call, peer)
    call.own_host = call.own_host or ngx.var.a8_host
    ngx.var.a8_host = peer.host or call.own_host
    ngx.var.a8_sni = peer.name
    call.host = peer.host or false
end

-- The time until an answer begins is one for all attempts.
local function timeouts(call, now)
    local read = IDLE
    if call.deadline then
        read = math.max(call.deadline - now, 0.001)
    elseif not call.streams then
        read = math.max(call.begun + HEADERS - now, 0.001)
    end
    return balancer.set_timeouts(math.min(CONNECT, read), read, read)
end

-- The handler of balancer_by_lua.
function M.balance()
    local call = context.get()
    local attempt = call.attempt + 1
    call.attempt = attempt
    local peer, first, now = call.peer, attempt == 1, ngx.now()
    if not first then
        first, call.chosen = call.chosen, false
        peer = first and peer or again(call, now)
        if not peer then
            return
        end
    else
        call.begun = now
        if peer.host or peer.tls then
            M.name(call, peer)
            balancer.recreate_request()
        end
        if call.target.lb == "least_request" then
            peer.active = peer.active + 1
            call.counted = peer
        end
    end
    if attempt > 1 or call.streams or call.deadline then
        timeouts(call, now)
    end
    local address, more = doors.address(call, peer, now)
    more = more and not call.masked  -- nginx would take a 5xx, too, for a reason to try the next address
    local tries = (first and call.retries_left - call.kept or 0) + (more and 1 or 0)
    if tries > 0 then
        balancer.set_more_tries(tries)
    end
    if call.hopped then
        balancer.set_current_peer(M.hop)
        return
    end
    if call.target.tls then
        balancer.set_upstream_tls(peer.tls or false)
    end
    -- The name keeps connections with TLS, each to one name, apart from plain ones.
    balancer.set_current_peer(address, peer.port, peer.tls and peer.name or nil)
    balancer.enable_keepalive(POOL_IDLE, call.target.calls_per_connection)
end

-- How the newest attempt failed; nil: there was none.
local function failure_at_last()
    local attempts, status = 0, nil
    for each in (ngx.var.upstream_status or ""):gmatch("[^,:%s]+") do
        attempts, status = attempts + 1, each
    end
    return status and failure_of(attempts, tonumber(status))
end

-- The handler of the way on after a 5xx or a failure, where a rule asks for retries: chooses the instance of
-- the next attempt, which is made here if others may follow, and else where its answer passes. nginx leads a
-- call to so many places only; past TURNS all attempts but the last go through the hop, which masks what
-- nginx would not repeat by itself. ``tls`` is the ending of the places' names.
function M.further(tls)
    local call, now = context.get(), ngx.now()
    local failure = call.failure or failure_at_last()
    call.failure = false
    if not failure then
        return refuse.failed(500)
    end
    call.turns = call.turns + 1
    call.masked = call.turns == TURNS
    if not next_peer(call, failure, now, 0) then
        call.failure = call.deadline and call.deadline <= now and "timeout" or failure
        return M.failed()
    end
    call.chosen = true
    if call.retries_left > 0 and not call.masked then
        return nil
    end
    call.kept = 0
    return ngx.exec((call.retries_left > 0 and "@a8_masked" or "@a8_last") .. tls)
end

-- The handler of nginx's own 500, 502, 503 and 504: the way to the instance failed.
function M.failed()
    local var = ngx.var
    local call = context.get()
    local failure = call and call.target and (call.failure or failure_at_last())
    if not failure then
        return refuse.failed(500)
    elseif failure == "reset" and call.hopped and var.a8_hop:match("^%S+ %-1") then
        return refuse.close()
    elseif failure == "timeout" then
        record.of(call).flags = "UT"
        return refuse.failed(504)
    elseif failure == "connect" then
        if not call.hopped then
            eject.leave_out(call.peer.place)
        end
        return refuse.call(call, "UF")
    end
    record.of(call).flags = "UC"
    return refuse.failed(503)
end

return M
