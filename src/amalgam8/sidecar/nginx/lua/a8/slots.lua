-- Calls under way to a version, and calls that wait for a connection to it, where a rule limits them. Counted
-- over all workers; what a worker that died had counted goes when its successor starts.

local shared = ngx.shared.a8_state

local PAUSE = 0.005
local LONGEST = 15  -- seconds to wait, where no rule says how long the call may take

local own = ""

local M = {}

local function add(key, by)
    shared:incr(own .. key, by, 0)
    return shared:incr(key, by, 0)
end

-- Begin anew, in a worker.
function M.start()
    own = "own:" .. ngx.worker.id() .. ":"
    for _, key in ipairs(shared:get_keys(0)) do
        if key:sub(1, #own) == own then
            shared:incr(key:sub(#own + 1), -shared:get(key), 0)
            shared:delete(key)
        end
    end
end

local function entered(target)
    local count = add(target.calls_key, 1)
    if target.most_calls and count > target.most_calls then
        add(target.calls_key, -1)
        return nil, "full"
    elseif target.most_connections and count > target.most_connections then
        add(target.calls_key, -1)
        return false
    end
    return true
end

local function wait(target, till)
    while ngx.now() < till do
        ngx.sleep(PAUSE)
        local inside, problem = entered(target)
        if inside or problem then
            return inside, problem
        end
    end
    return nil, "late"
end

-- Let one more call in, once there is a connection for it; every call uses one of its own. Else nil and why
-- not: "full", or "late" where its time was over before it could begin.
function M.enter(target, deadline)
    local inside, problem = entered(target)
    if inside or problem then
        return inside, problem
    end
    local waiting = add(target.waiting_key, 1)
    if target.most_waiting and waiting > target.most_waiting then
        problem = "full"
    else
        inside, problem = wait(target, deadline or ngx.now() + LONGEST)
    end
    add(target.waiting_key, -1)
    return inside, problem
end

-- A call that was let in has ended.
function M.leave(target)
    add(target.calls_key, -1)
end

return M
