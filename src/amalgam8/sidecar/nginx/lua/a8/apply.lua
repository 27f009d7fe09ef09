-- Follows the newest generation of the document: each worker builds its tables once, beside the requests,
-- and takes them at one stroke. A request keeps to the tables that it began with.

jit.off(true, true)  -- it runs for changes, not for calls: what is compiled stays in memory

local build = require "a8.build"
local cjson = require "cjson.safe"
local eject = require "a8.eject"
local figures = require "a8.figures"
local ids = require "a8.ids"
local lines = require "a8.lines"
local slots = require "a8.slots"

local documents, shared = ngx.shared.a8_documents, ngx.shared.a8_state

local PERIOD = 0.01
local AT_ONCE = 15  -- services built between two looks at the requests
local PAUSE = 0.001
local TIDY_EVERY = 1  -- seconds at least between two searches for what no generation needs any more
local TIDY_STEP = 100  -- KB looked at between two looks at the requests
local FREED = 400  -- KB looked at after each change, so that many in a row leave no more behind than one

local M = { own = "" }

local known = {}  -- name -> {generation, service}
local busy = false
local tidied, tidied_at = 0, 0

-- A Host has no case. Of names that differ in case only, the one in lower case is meant, else the first.
-- The sidecar's own service is no address.
local function name_host(by_host, name, service)
    local host = name:lower()
    local other = by_host[host]
    if host ~= M.own:lower() and (not other or name == host or other.name ~= host and name < other.name) then
        by_host[host] = service
    end
end

local function tables_of(generation, services)
    local tables = { generation = generation, by_host = {}, by_key = {}, outers = {} }
    for name, each in pairs(services) do
        local service = each.service
        name_host(tables.by_host, name, service)
        tables.by_key[service.key] = service
        for _, route in ipairs(service.outers) do
            route.service = service
            tables.outers[#tables.outers + 1] = route
        end
    end
    table.sort(tables.outers, function(one, other)
        for i = 1, 3 do
            if one.order[i] ~= other.order[i] then
                return one.order[i] < other.order[i]
            end
        end
        return false
    end)
    return tables
end

-- Where one service's document of one generation is kept.
function M.key(generation, name)
    return generation .. ":" .. name
end

-- Load a generation. ``pausing``: let requests pass in between. ``made``: services built already, by name.
function M.load(generation, pausing, made)
    local index = documents:get("index:" .. generation)
    if not index then
        return false
    end
    local services, built = {}, 0
    for name, changed in pairs(cjson.decode(index)) do
        local before = known[name]
        if before and before.generation == changed then
            services[name] = before
        else
            local service = made and made[name]
            if not service then
                local document = documents:get(M.key(changed, name))
                if not document then
                    return false  -- a newer generation is there already
                end
                service = build.service(cjson.decode(document))
                built = built + 1
                if pausing and built % AT_ONCE == 0 then
                    ngx.sleep(PAUSE)
                end
            end
            services[name] = { generation = changed, service = service }
        end
    end
    M.tables = tables_of(generation, services)
    known = services
    collectgarbage("step", FREED)
    shared:set("ack:" .. ngx.worker.id(), generation)
    return true
end

-- Keep other loads of this worker away while ``work`` runs.
function M.alone(work)
    while busy do
        ngx.sleep(PAUSE)
    end
    busy = true
    local fine, problem = pcall(work)
    busy = false
    if not fine then
        error(problem, 0)
    end
end

-- Free what older generations had, in small steps; by itself it would stay until there is as much again.
local function tidy(now)
    tidied, tidied_at = M.tables.generation, now
    while not collectgarbage("step", TIDY_STEP) do
        ngx.sleep(PAUSE)
    end
end

local function tick()
    local newest = documents:get("generation") or 0
    local mine = M.tables and M.tables.generation or 0
    if newest ~= mine and not busy then
        M.alone(function() M.load(newest, true) end)
    end
    local now = ngx.now()
    eject.tick(now)
    figures.tick(now)
    lines.tick(now)
    if M.tables and M.tables.generation ~= tidied and now > tidied_at + TIDY_EVERY then
        tidy(now)
    end
end

-- Start following, in a worker: what is current is loaded before its first request.
function M.start()
    math.randomseed(ngx.worker.pid() + ngx.now() * 1000)
    ids.start()
    slots.start()
    local newest = documents:get("generation")
    if newest then
        M.load(newest, false)
    else
        shared:set("ack:" .. ngx.worker.id(), 0)
    end
    ngx.timer.every(PERIOD, function(premature)
        if not premature then
            local fine, problem = pcall(tick)
            if not fine then
                ngx.log(ngx.ERR, "the document could not be followed: ", problem)
            end
        end
    end)
end

-- How many workers follow ``generation``.
function M.followers(generation)
    local count = 0
    for id = 0, ngx.worker.count() - 1 do
        if shared:get("ack:" .. id) == generation then
            count = count + 1
        end
    end
    return count
end

return M
