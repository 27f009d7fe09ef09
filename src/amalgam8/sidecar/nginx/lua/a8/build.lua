-- One service's document, made into the tables that requests are decided by. Pure; an error refuses it.
-- There are many of some tables, peers above all: they have no member that most would have as nothing.

jit.off(true, true)  -- it runs for changes, not for calls: what is compiled stays in memory

local doors = require "a8.doors"
local figures = require "a8.figures"
local match = require "a8.match"

local NONE = {}
local CALLS_PER_CONNECTION = 1000000

local M = {}

local KINDS = { "routes", "outers", "access", "limits", "headers", "mirrors", "faults", "traces" }

local function whole(value, least, most, what)
    if type(value) ~= "number" or value ~= math.floor(value) or value < least or value > most then
        error(("%s has to be a whole number from %d to %d"):format(what, least, most), 0)
    end
    return value
end

local function text(value, what)
    if type(value) ~= "string" then
        error(what .. " has to be text", 0)
    end
    return value
end

local function set_of(list)
    if not (list and list[1]) then
        return NONE
    end
    local set = {}
    for _, each in ipairs(list) do
        set[each] = true
    end
    return set
end

local function carried(tags, set)
    for _, tag in ipairs(tags or {}) do
        if not set[tag] then
            return false
        end
    end
    return true
end

local function peer_of(document, target)
    text(document.id, "an instance's id")
    local address, port = text(document.address, "an instance's address"), document.port
    whole(port, 1, 65535, "an instance's port")
    local version = table.concat(document.tags or {}, ",")
    local peer = {
        address = address,
        port = port,
        name = document.host or address,  -- for which its certificate has to be
        place = address .. ":" .. port,
        version = version,
        dst = version == "" and target.service or target.service .. ":" .. version,
    }
    if document.host then
        peer.host, target.named = document.host, true
    end
    if document.tls then
        peer.tls, target.tls = true, true
    end
    if document.others then
        peer.doors = doors.of(peer, document.others)
    end
    if target.lb == "least_request" then
        peer.active = 0
    end
    return peer
end

local function limit_of(resilience, name)
    local value = resilience and resilience[name] or 0
    return value > 0 and whole(value, 1, 1e9, name) or nil
end

local function limits_of(target, resilience)
    target.resilience = resilience
    target.calls_per_connection = limit_of(resilience, "max_requests_per_connection") or CALLS_PER_CONNECTION
    target.most_connections = limit_of(resilience, "max_connections")
    target.most_waiting = limit_of(resilience, "max_pending_requests")
    target.most_calls = limit_of(resilience, "max_requests")
    if target.most_connections or target.most_calls then
        target.limited = true
        target.calls_key, target.waiting_key = "calls:" .. target.name, "waiting:" .. target.name
    end
end

local function target_of(document)
    local target = {
        service = text(document.service, "a target's service"),
        name = text(document.name, "a target's name"),
        tags = set_of(document.tags),
        calls_per_connection = CALLS_PER_CONNECTION,
        peers = {},
        next = math.random(1, 1000),
    }
    if document.lb then
        target.lb = document.lb
    end
    if document.resilience then
        limits_of(target, document.resilience)
    end
    for i, each in ipairs(document.peers or {}) do
        target.peers[i] = peer_of(each, target)
    end
    return target
end

local function slice_of(document, targets)
    local slice = { target = targets[whole(document.target, 1, #targets, "a slice's target")], upto = 0 }
    if document.timeout then
        slice.timeout = document.timeout
    end
    if document.retries then
        slice.retries = document.retries
    end
    return slice
end

local function route_of(document, targets)
    local route = { slices = {}, total = 0, rule = "" }
    for _, each in ipairs(document.slices) do
        local slice = slice_of(each, targets)
        local weight = whole(each.weight, 0, 1e15, "a slice's weight")
        if weight > 0 then
            route.total = route.total + weight
            slice.upto = route.total
            route.repeats = route.repeats or (slice.retries or 0) > 0
            route.slices[#route.slices + 1] = slice
        end
    end
    if not route.slices[1] then
        error("a route without a slice", 0)
    end
    if document.affinity then
        route.affinity = document.affinity
    end
    return route
end

-- For each target, which of an entry's parts act on it.
local function by_target(parts, targets)
    local found = {}
    for _, target in ipairs(targets) do
        local acting = {}
        for _, part in ipairs(parts or {}) do
            if carried(part.tags, target.tags) then
                acting[#acting + 1] = part
            end
        end
        found[target] = acting
    end
    return found
end

local makers = {}

function makers.routes(document, targets)
    return route_of(document, targets)
end

function makers.outers(document, targets)
    local route = route_of(document, targets)
    route.path, route.prefix, route.rewrite = document.path, document.prefix, document.rewrite
    route.order = document.order
    return route
end

function makers.access(document)
    return { verdict = text(document.verdict, "a verdict") }
end

function makers.limits(document, _, service)
    local limits, demand = {}, nil
    for i, each in ipairs(document.limits) do
        local per, burst = each.per or 1, each.burst or 0
        local interval = per / each.requests
        limits[i] = {
            interval = interval,
            -- What the bucket holds, less the one call that takes from it.
            tolerance = math.max(1, math.floor(each.requests + burst)) * interval,
            header = each.header ~= "" and each.header or nil,
            budget = each.budget ~= "" and each.budget or nil,
            key = ("%s#%s#%d#%g#%g#%g"):format(
                service, document.rule, i, each.requests, per, burst
            ),
        }
        -- Under which calls are counted that come to a budget of the fleet.
        demand = limits[i].budget and document.rule or demand
    end
    return { limits = limits, demand = demand }
end

function makers.headers(document)
    return { set = document.set or {}, remove = document.remove or {} }
end

function makers.mirrors(document, targets)
    local mirrors = {}
    for i, each in ipairs(document.mirrors) do
        mirrors[i] = { target = targets[whole(each.target, 1, #targets, "a mirror")], percent = each.percent }
    end
    return { mirrors = mirrors }
end

function makers.faults(document, targets)
    local delays, aborts = by_target(document.delays, targets), by_target(document.aborts, targets)
    local acts = {}
    for _, target in ipairs(targets) do
        if delays[target][1] or aborts[target][1] then
            acts[target] = { delays = delays[target], aborts = aborts[target] }
        end
    end
    return { acts = acts }
end

function makers.traces(document, targets)
    local acts = by_target(document.traces, targets)
    return { acts = acts }
end

-- The tables of one service. Raises an error that says what is wrong with the document.
function M.service(document)
    if type(document) ~= "table" then
        error("a service has to be an object", 0)
    end
    local service = {
        name = text(document.name, "a service's name"),
        key = text(document.key, "a service's key"),
        tally = figures.tally(document.name),
    }
    local targets = {}
    for i, each in ipairs(document.targets or {}) do
        targets[i] = target_of(each)
    end
    service.targets = targets
    for _, kind in ipairs(KINDS) do
        local entries = {}
        for i, each in ipairs(document[kind] or {}) do
            local entry = makers[kind](each, targets, service.name)
            entry.rule = each.rule or ""
            if each.expires then
                entry.expires = each.expires
            end
            if each.match then
                entry.match = match.condition(each.match)
            end
            entries[i] = entry
        end
        match.gather(entries)
        service[kind] = entries[1] and entries or NONE
    end
    -- Whether rules may ask for a body more than once.
    service.repeats = service.mirrors[1] ~= nil
    for _, kind in ipairs({ service.routes, service.outers }) do
        for _, route in ipairs(kind) do
            service.repeats = service.repeats or route.repeats
        end
    end
    service.acts = (service.traces[1] or service.faults[1] or service.mirrors[1] or service.headers[1]) ~= nil
    for _, entry in ipairs(service.access) do
        if entry.verdict ~= "deny" then
            service.guard = true
        end
    end
    for _, route in ipairs(service.routes) do
        service.whole = service.whole or not (route.match or route.expires)
    end
    if not service.whole then
        error("one of the routes has to hold always", 0)
    end
    return service
end

return M
