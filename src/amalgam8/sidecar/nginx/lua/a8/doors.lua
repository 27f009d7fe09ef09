-- The addresses of an instance whose host name has several. It stays one instance: a connection that one
-- address refuses is made to the next, and the instance refuses only when all of them do.

local eject = require "a8.eject"

local M = {}

local function key(peer, door)
    return ("%s:%d door"):format(peer.doors[door], peer.port)
end

local function open(peer, from, now)
    for door = from, #peer.doors do
        if eject.is_open(key(peer, door), now) then
            return door
        end
    end
    return nil
end

-- All addresses of a peer, in the order in which they are tried. Raises an error where they are no text.
function M.of(peer, others)
    local found = { peer.address }
    for i, each in ipairs(others) do
        if type(each) ~= "string" then
            error("an instance's address has to be text", 0)
        end
        found[i + 1] = each
    end
    return found
end

-- The address to connect to in a call's attempt; the second result: there are more.
function M.address(call, peer, now)
    if not peer.doors then
        return peer.address, false
    end
    if call.door_of ~= peer then
        call.door_of, call.door = peer, open(peer, 1, now) or 1
    end
    return peer.doors[call.door], open(peer, call.door + 1, now) ~= nil
end

-- The address that was tried refuses: true where the same instance has another.
function M.refused(call, peer, now)
    if not peer.doors or call.door_of ~= peer then
        return false
    end
    eject.leave_out(key(peer, call.door))
    local next_one = open(peer, call.door + 1, now)
    if next_one then
        call.door = next_one
        return true
    end
    call.door_of = false
    return false
end

return M
