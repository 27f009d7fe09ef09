-- Injected faults act as if the destination had failed: each attempt throws its own dice for the delays,
-- then for the aborts, of which the first ends the attempt.

local random = math.random

local M = {}

local function falls(probability)
    return probability == nil or probability >= 1 or random() < probability
end

-- Throw the dice of one attempt: seconds to hold it, and the status of an abort, if one falls.
function M.throw(acts)
    local held = 0
    for i = 1, #acts.delays do
        local delay = acts.delays[i]
        if falls(delay.probability) then
            held = held + delay.seconds
        end
    end
    for i = 1, #acts.aborts do
        local abort = acts.aborts[i]
        if falls(abort.probability) then
            return held, abort.status
        end
    end
    return held, nil
end

-- Whether an attempt that ended so may be repeated: by a rule's retries, where that is safe.
function M.retryable(status, call)
    return call.retries_left > 0 and call.on_5xx and (status >= 500 or status == -1)
end

return M
