-- Which share of a route takes the call, and which instance of it.

local eject = require "a8.eject"
local headers = require "a8.headers"
local xxhash = require "a8.xxhash"

local random, floor = math.random, math.floor

local M = {}

-- The value of a cookie in a Cookie header; nil where it is absent or empty.
local function cookie_value(header, wanted)
    for pair in header:gmatch("[^;]+") do
        local name, value = pair:match("^%s*(.-)=(.*)$")
        if name == wanted then
            value = value:match('^"(.*)"$') or value
            return value ~= "" and value or nil
        end
    end
    return nil
end

-- The hash of who asks, as uint64_t; nil where the request does not say.
local function user(affinity)
    if affinity.cookie and affinity.cookie ~= "" then
        local header = headers.get("cookie")
        local value = header and cookie_value(header, affinity.cookie)
        return value and xxhash.hash(value)
    end
    local values = headers.all(affinity.header:lower())
    return values[1] and (values[2] and xxhash.of_many(values) or xxhash.hash(values[1]))
end

-- The slice of the route for the request at hand: by the user's hash, else by chance.
function M.slice(route)
    local slices = route.slices
    local count = #slices
    if count == 1 then
        return slices[1]
    end
    local who = route.affinity and user(route.affinity)
    local point = who and xxhash.modulo(who, route.total) or floor(random() * route.total)
    if point < slices[1].upto then  -- most have two, which needs no loop
        return slices[1]
    end
    for i = 2, count - 1 do
        if point < slices[i].upto then
            return slices[i]
        end
    end
    return slices[count]
end

local function usable(target, peer, now, tried, fresh)
    return (not eject.any or eject.is_in(target, peer, now)) and not (fresh and tried and tried[peer])
end

-- An instance of the target, not one of ``tried`` while there is another. When all are left out, all are
-- tried. nil: it has none.
function M.peer(target, now, tried)
    local peers = target.peers
    local count = #peers
    if count == 0 then
        return nil
    end
    if count == 1 then
        return peers[1]
    end
    local start
    if target.lb == "random" then
        start = random(1, count)
    else
        start = target.next % count + 1
        target.next = start
    end
    if not eject.any and not tried and target.lb ~= "least_request" then
        return peers[start]
    end
    local found
    for pass = 1, 2 do
        for i = 0, count - 1 do
            local peer = peers[(start + i - 1) % count + 1]
            if usable(target, peer, now, tried, pass == 1) then
                if target.lb ~= "least_request" then
                    if i > 0 and target.lb ~= "random" then
                        target.next = (start + i - 1) % count + 1
                    end
                    return peer
                end
                if not found or peer.active < found.active then
                    found = peer
                end
            end
        end
        if found then
            return found
        end
    end
    for i = 0, count - 1 do
        local peer = peers[(start + i - 1) % count + 1]
        if not (tried and tried[peer]) then
            return peer
        end
    end
    return peers[start]
end

return M
