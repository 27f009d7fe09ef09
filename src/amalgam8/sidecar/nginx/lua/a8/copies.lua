-- Copies of a call: nginx makes a request of its own for each place that the configuration has for one.

local M = {}

-- Remember where the copies of the call at hand go, in order.
function M.set(peers)
    local places = {}
    for i, peer in ipairs(peers) do
        places[i] = peer.place
    end
    ngx.var.a8_copies = table.concat(places, " ")
end

-- The handler of a copy, whose path ends with its number.
function M.handle()
    local var = ngx.var
    local wanted, number = tonumber(var.uri:match("%d+$")), 0
    for place in var.a8_copies:gmatch("%S+") do
        number = number + 1
        if number == wanted then
            var.a8_copy = place
            return nil
        end
    end
    return ngx.exit(204)
end

return M
