-- The end of each request: figures for /metrics, and what the instance's answer says of the instance.

local context = require "a8.context"
local eject = require "a8.eject"

local shared = ngx.shared.a8_figures

local floor = math.floor

local counts = {}
local dirty = false

local M = {}

-- Add to a figure; it is shared at the next tick.
function M.add(name, by)
    counts[name] = (counts[name] or 0) + by
    dirty = true
end

local CLASSES = { "1xx", "2xx", "3xx", "4xx", "5xx" }

-- The handler of log_by_lua.
function M.handle()
    local status = ngx.status
    local class = CLASSES[floor(status / 100)]
    if class then
        counts[class] = (counts[class] or 0) + 1
        dirty = true
    end
    local call = context.take()
    if not call then
        return
    end
    local target = call.target
    local peer = call.counted
    if peer then
        peer.active = peer.active - 1
        target.active = target.active - 1
    end
    if target.resilience and call.attempt > 0 then
        eject.count(target, call.peer, status >= 500)
    end
end

-- Hand this worker's figures to all.
function M.tick()
    if not dirty then
        return
    end
    dirty = false
    for name, by in pairs(counts) do
        if by ~= 0 then
            shared:incr(name, by, 0)
            counts[name] = 0
        end
    end
end

-- The handler of GET /figures: lines of a name and a number.
function M.show()
    M.tick()
    for _, name in ipairs(shared:get_keys(0)) do
        ngx.say(name, " ", shared:get(name))
    end
    ngx.say("active ", ngx.var.connections_active)
    ngx.say("writing ", ngx.var.connections_writing)
end

return M
