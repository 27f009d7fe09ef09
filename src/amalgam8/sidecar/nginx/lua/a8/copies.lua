-- Copies of a call: nginx makes a request of its own for each place that the configuration has for one.

local M = {}

-- Remember where the copies of the call at hand go, in order: for each a URL, a certificate's name, a Host.
function M.set(peers)
    local var = ngx.var
    local places = {}
    for i, peer in ipairs(peers) do
        local scheme = peer.tls and "https://" or "http://"
        places[i] = ("%s%s %s %s"):format(scheme, peer.place, peer.name, peer.host or "-")
    end
    var.a8_copies = table.concat(places, " ")
end

-- The handler of a copy, whose path ends with its number.
function M.handle()
    local var = ngx.var
    local wanted, number = tonumber(var.uri:match("%d+$")), 0
    for url, name, host in var.a8_copies:gmatch("(%S+) (%S+) (%S+)") do
        number = number + 1
        if number == wanted then
            var.a8_copy = url
            var.a8_copy_host = host ~= "-" and host or var.a8_host
            -- Asked for after the connection, when other copies have changed the variables that all share.
            ngx.req.set_uri_args(name)
            return nil
        end
    end
    return ngx.exit(204)
end

return M
