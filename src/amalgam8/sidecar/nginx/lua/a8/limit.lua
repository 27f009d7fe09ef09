-- Token buckets that all workers share, as a theoretical arrival time: one number for each bucket.

local shared = ngx.shared.a8_limits

local KEY_LIMIT = 512

local M = {}

local function key_of(limit, get)
    local value = limit.header and get(limit.header)
    if not value then
        return limit.key
    end
    return limit.key .. "=" .. (#value <= KEY_LIMIT and value or ngx.md5(value))
end

-- Whether one more call may pass a limit at ``now`` (seconds since the proxy's start).
local function take(limit, key, now)
    local interval = limit.interval
    local forget = limit.tolerance + interval + 1
    local due, problem = shared:incr(key, interval, now, forget)
    if not due then
        return true, problem  -- no room for another bucket: better to let a call pass than to refuse all
    end
    if due - interval < now then  -- a full bucket holds no more, however long nobody called
        due = shared:incr(key, now - (due - interval)) or due
    end
    if due - now > limit.tolerance * (1 + 1e-9) then
        shared:incr(key, -interval)
        return false
    end
    shared:expire(key, forget + limit.tolerance)
    return true
end

-- Whether the call passes all limits of the entry. A call that one refuses takes nothing from the others.
function M.passes(entry, get, now)
    local limits = entry.limits
    for i = 1, #limits do
        if not take(limits[i], key_of(limits[i], get), now) then
            for j = 1, i - 1 do
                shared:incr(key_of(limits[j], get), -limits[j].interval)
            end
            return false
        end
    end
    return true
end

-- Whole seconds after which one more call would surely pass, if nobody else called.
function M.retry_after(entry)
    local longest = 1
    for _, limit in ipairs(entry.limits) do
        longest = math.max(longest, math.ceil(limit.interval))
    end
    return longest
end

return M
