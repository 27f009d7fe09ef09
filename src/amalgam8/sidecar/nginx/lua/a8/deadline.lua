-- Ends a response that is still under way when its rule's time is over: read timeouts of nginx bound the
-- gaps between bytes only.

local context = require "a8.context"

local M = {}

-- The handler of body_filter_by_lua.
function M.check()
    local call = context.get()
    local deadline = call and call.deadline
    if deadline and not ngx.arg[2] and ngx.now() > deadline then
        return ngx.ERROR
    end
    return nil
end

return M
