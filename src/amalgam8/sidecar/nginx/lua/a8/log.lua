-- The end of each request: what it counts as, and what the instance's answer says of the instance.

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
    if call.attempt ~= 1 or call.faults then
        local tries = call.attempt + (call.faults or 0)
        ngx.var.a8_attempts = tries ~= 1 and tries or call.attempt
    end
end

-- The handler of log_by_lua.
function M.handle()
    local status = ngx.status
    local took = (ngx.now() - ngx.req.start_time()) * 1000
    local class = floor(status / 100)
    local call = context.take()
    if status == GONE then
        ngx.var.a8_flags = "DC"
    end
    if not call then
        record.none()
        return figures.count(figures.tally(NOBODY), "", class, nil, took)
    end
    if call.target then
        settle(call, status)
    else
        record.none()
    end
    local tally = call.service and call.service.tally or figures.tally(NOBODY)
    return figures.count(tally, call.peer and call.peer.version or "", class, call.reason, took)
end

return M
