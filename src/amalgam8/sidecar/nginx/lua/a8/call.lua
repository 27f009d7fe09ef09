-- What is known of a call under way. One that has ended is used again for another, since to make a table
-- costs more than to fill one; so each member stands here, and nothing of a call is left for the next one.

local MOST = 64  -- that wait to be used again

local free, count = {}, 0

-- Without members: that a call is of no service, no rule, nothing.
local function emptied(call)
    -- What it asks for, and where it goes.
    call.service, call.route, call.target, call.path, call.peer = false, false, false, false, false
    call.host, call.own_host, call.door, call.door_of = false, false, false, false
    -- What kind of call it is, and how it may go on.
    call.streams, call.grpc, call.upgrade, call.on_5xx = false, false, false, false
    call.retries_left, call.deadline, call.acts, call.copies = 0, false, false, false
    -- How it went.
    call.attempt, call.faults, call.turns, call.kept, call.begun = 0, 0, 0, 0, 0
    call.tried, call.chosen, call.hopped, call.masked = false, false, false, false
    call.failure, call.reason, call.counted, call.inside = false, false, false, false
    -- What its record says.
    call.asked, call.number, call.id, call.rule, call.said = false, 0, false, "-", false
    call.agent, call.forwarded, call.auth, call.head, call.spoken = false, false, false, false, false
    return call
end

-- Any member but these would stay with the table.
local only_these = {
    __newindex = function(_, name)
        error("a call has no " .. name, 2)
    end,
}

local M = {}

-- A call without members.
function M.new()
    if count == 0 then
        return setmetatable(emptied({}), only_these)
    end
    count = count - 1
    return free[count + 1]
end

-- A call has ended.
function M.ended(call)
    if count < MOST then
        count = count + 1
        free[count] = emptied(call)
    end
end

return M
