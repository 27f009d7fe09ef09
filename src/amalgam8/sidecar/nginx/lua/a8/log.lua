-- The end of each request: what it counts as, and what the instance's answer says of the instance.

local calls = require "a8.call"
local context = require "a8.context"
local eject = require "a8.eject"
local figures = require "a8.figures"
local record = require "a8.record"
local slots = require "a8.slots"

local floor = math.floor

local NOBODY = ""
local GONE = 499  -- nginx's own status: the app did not wait for the answer

local M = {}

local function settle(call, status)
    local target, peer = call.target, call.counted
    if peer then
        peer.active = peer.active - 1
    end
    if call.inside then
        slots.leave(target)
    end
    if target.resilience and call.attempt > 0 and status ~= GONE then
        eject.count(target, call.peer, status >= 500)
    end
    local tries = call.attempt + call.faults
    return tries ~= 1 and tries or call.attempt
end

-- The handler of log_by_lua.
function M.handle()
    local status = ngx.status
    local now, started = ngx.now(), ngx.req.start_time()
    local call = context.take() or calls.new()
    local attempts = call.target and settle(call, status) or 0
    if status == GONE then
        record.of(call).flags = "DC"
    end
    record.write(call, attempts, started, now)
    local tally = call.service and call.service.tally or figures.tally(NOBODY)
    local version, class = call.peer and call.peer.version or "", floor(status / 100)
    figures.count(tally, version, class, call.reason, (now - started) * 1000)
    calls.ended(call)
end

return M
