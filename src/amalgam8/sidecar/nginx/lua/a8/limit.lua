-- Token buckets that all workers share, as a theoretical arrival time: one number for each bucket.
-- Of a budget that the fleet shares, a call takes the longer, the smaller this sidecar's share of it is: a
-- new share changes what calls cost and no bucket.

local cjson = require "cjson.safe"
local figures = require "a8.figures"

local shared, slices = ngx.shared.a8_limits, ngx.shared.a8_slices

local FIRST_SHARE = 0.1

local KEY_LIMIT = 512

local M = {}

local function key_of(limit, get)
    local value = limit.header and get(limit.header)
    if not value then
        return limit.key
    end
    return limit.key .. "=" .. (#value <= KEY_LIMIT and value or ngx.md5(value))
end

-- The time that one call takes of a bucket; nil: no call may pass.
local function cost(limit)
    if not limit.budget then
        return limit.interval
    end
    local share = slices:get(limit.budget) or FIRST_SHARE
    return share > 0 and limit.interval / share or nil
end

-- Whether one more call, which takes ``interval``, may pass a limit at ``now`` (seconds since the start).
local function take(limit, key, interval, now)
    if not interval then
        return false
    end
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

local function passes(limits, get, now)
    local taken = {}
    for i = 1, #limits do
        taken[i] = cost(limits[i])
        if not take(limits[i], key_of(limits[i], get), taken[i], now) then
            for j = 1, i - 1 do
                shared:incr(key_of(limits[j], get), -taken[j])
            end
            return false
        end
    end
    return true
end

-- Whether the call passes all limits of the entry. A call that one refuses takes nothing from the others.
function M.passes(entry, get, now)
    local passed = passes(entry.limits, get, now)
    if entry.demand then
        figures.demand(entry.demand, passed)
    end
    return passed
end

-- The handler of POST /slices: this sidecar's share of each budget, as a JSON object.
function M.share()
    ngx.req.read_body()
    local told = cjson.decode(ngx.req.get_body_data() or "")
    if type(told) ~= "table" then
        return ngx.exit(400)
    end
    for budget, share in pairs(told) do
        if type(share) ~= "number" then
            return ngx.exit(400)
        end
        slices:set(budget, share)
    end
    return ngx.exit(204)
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
