-- Which service a request is for: by Host, else by an outer path of a rule, else by the first path segment.
-- Of a path only exact text counts, as it came: nothing is decoded, merged or folded. A Host has no case.

local match = require "a8.match"

local find, sub = string.find, string.sub

local M = {}

local last_host, last_name

-- The host without its port, in lower case. Apps send the same one again and again.
local function host_name(host)
    if host ~= last_host then
        last_host, last_name = host, (host:match("^(.*):%d+$") or host):lower()
    end
    return last_name
end

-- Where the first path segment ends, just past it.
local function ending_of(target, first)
    local slash, mark = find(target, "/", first, true), find(target, "?", first, true)
    if slash and mark then
        return slash < mark and slash or mark
    end
    return slash or mark or #target + 1
end

local function rewritten(route, plain)
    if route.path and route.path ~= "" then
        if plain ~= route.path then
            return nil
        end
        return route.rewrite or plain
    end
    local prefix = route.prefix or ""
    if sub(plain, 1, #prefix) ~= prefix then
        return nil
    end
    if route.rewrite then
        return route.rewrite .. sub(plain, #prefix + 1)
    end
    return plain
end

local function outer(outers, target, get, now)
    local mark = find(target, "?", 1, true)
    local plain = mark and sub(target, 1, mark - 1) or target
    for i = 1, #outers do
        local route = outers[i]
        if not route.expires or route.expires > now then
            local path = rewritten(route, plain)
            if path and match.holds(route.match, get) then
                return route, mark and path .. sub(target, mark) or path
            end
        end
    end
    return nil
end

-- The service, the path that the instance sees, and the route where an outer path chose one.
-- For an unknown service: nil and the name asked for. ``target`` is the request's, as it came.
function M.find(tables, target, get, now)
    local host = get("host")
    if host then
        local service = tables.by_host[host_name(host)]
        if service then
            return service, target
        end
    end
    if tables.outers[1] then
        local route, path = outer(tables.outers, target, get, now)
        if route then
            return route.service, path, route
        end
    end
    local first = sub(target, 1, 1) == "/" and 2 or 1
    local ending = ending_of(target, first)
    local segment = sub(target, first, ending - 1)
    local service = tables.by_key[segment]
    if not service then
        return nil, segment
    end
    if sub(target, ending, ending) == "/" then
        return service, sub(target, ending)
    end
    return service, "/" .. sub(target, ending)
end

return M
