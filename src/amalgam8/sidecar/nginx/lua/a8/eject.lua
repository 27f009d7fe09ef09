-- Instances that are left out for a while: those that refused a connection, and those whose answers in a
-- row were failures where a rule says so. Known in one worker at once, in the others within a tick.

local shared = ngx.shared.a8_state

local LEFT_OUT = 3
local LOOKED_AT = 1

local until_when = {}
local seen = 0

local M = { any = false }  -- ``any``: whether some instance may be left out now

local function is_in(place, now)
    local till = until_when[place]
    return till == nil or till <= now
end

-- Whether nothing speaks against a place at ``now``.
M.is_open = is_in

-- Whether the target's instance takes calls at ``now``. What a rule's resilience left out is out of the
-- rule's own target alone.
function M.is_in(target, peer, now)
    return is_in(peer.place, now) and (not target.resilience or is_in(target.name .. "@" .. peer.place, now))
end

-- Leave the instance out for ``seconds``.
function M.leave_out(place, seconds)
    local till = ngx.now() + (seconds or LEFT_OUT)
    until_when[place], M.any = till, true
    shared:set("out:" .. place, till, seconds or LEFT_OUT)
    local number = shared:incr("outs", 1, 0)
    shared:set("out#" .. number, place, LEFT_OUT * 4)
end

-- Learn what other workers found out, and forget what is over.
function M.tick(now)
    local newest = shared:get("outs") or 0
    while seen < newest do
        seen = seen + 1
        local place = shared:get("out#" .. seen)
        if place then
            until_when[place], M.any = shared:get("out:" .. place), true
        end
    end
    if not M.any then
        return
    end
    M.any = false
    for place, till in pairs(until_when) do
        if till <= now then
            until_when[place] = nil
        else
            M.any = true
        end
    end
end

-- Count an answer against the instance, or for it, where the target's rule says how many are too many.
function M.count(target, peer, failed)
    local resilience, place = target.resilience, target.name .. "@" .. peer.place
    local limit = resilience.consecutive_errors or 0
    if limit <= 0 then
        return
    end
    local key = "row:" .. place
    if not failed then
        if shared:get(key) then
            shared:delete(key)
        end
        return
    end
    if shared:incr(key, 1, 0, 3600) >= limit then
        shared:delete(key)
        local window, interval = resilience.sleep_window or 0, resilience.detection_interval or 0
        local now = ngx.now()
        -- It is looked at again every ``interval``, and comes back when its window is over by then.
        interval = interval > 0 and interval or LOOKED_AT
        local till = math.ceil((now + (window > 0 and window or LEFT_OUT)) / interval) * interval
        M.leave_out(place, till - now)
    end
end

return M
