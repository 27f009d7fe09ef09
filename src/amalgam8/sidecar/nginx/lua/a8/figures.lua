-- Counts calls: by destination, version, class of status and reason of a refusal, and by how long they took.
-- Each worker counts for itself and hands its counts over twice a second.

local cjson = require "cjson.safe"

local shared, slices = ngx.shared.a8_figures, ngx.shared.a8_slices

local EDGES = {
    0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000,
    10000, 30000, 60000, 300000, 600000, 1800000, 3600000,
}  -- milliseconds; the same as the other proxy's
local BEYOND = #EDGES + 1
local PERIOD = 0.5
local PAUSE, AT_ONCE = 0.001, 500

local tallies = {}  -- by destination
local changed, changed_count = {}, 0
local demands, wanted = {}, false  -- by rule
local handed_over = 0

local M = {}

-- Where the calls to a destination are counted, for the life of the worker.
function M.tally(name)
    local found = tallies[name]
    if not found then
        found = { name = name, versions = {}, dirty = false }
        tallies[name] = found
    end
    return found
end

-- Count a call that took so many milliseconds; ``class`` is 1 to 5.
function M.count(tally, version, class, reason, took)
    local seen = tally.versions[version]
    if not seen then
        seen = { counts = {}, times = {}, sum = 0 }
        tally.versions[version] = seen
    end
    local key = reason and class .. reason or class
    seen.counts[key] = (seen.counts[key] or 0) + 1
    local bucket = 1
    while bucket < BEYOND and took > EDGES[bucket] do
        bucket = bucket + 1
    end
    seen.times[bucket] = (seen.times[bucket] or 0) + 1
    seen.sum = seen.sum + took
    if not tally.dirty then
        tally.dirty = true
        changed_count = changed_count + 1
        changed[changed_count] = tally
    end
end

-- Count a call that came to a limit of the fleet's budget, by the rule.
function M.demand(rule, passed)
    local found = demands[rule]
    if not found then
        found = { calls = 0, passed = 0 }
        demands[rule] = found
    end
    found.calls = found.calls + 1
    found.passed = found.passed + (passed and 1 or 0)
    wanted = true
end

local function hand_over(tally)
    for version, seen in pairs(tally.versions) do
        for key, by in pairs(seen.counts) do
            local class, reason = tostring(key):match("^(%d)(.*)$")
            shared:incr(cjson.encode({ "calls", tally.name, version, class .. "xx", reason }), by, 0)
        end
        for bucket, by in pairs(seen.times) do
            shared:incr(cjson.encode({ "times", tally.name, version, EDGES[bucket] or "+Inf" }), by, 0)
        end
        shared:incr(cjson.encode({ "sum", tally.name, version }), seen.sum, 0)
    end
    tally.versions, tally.dirty = {}, false
end

local function hand_demand_over()
    for rule, found in pairs(demands) do
        for name, by in pairs(found) do
            shared:incr(cjson.encode({ "demand", rule, name }), by, 0)
        end
    end
    demands, wanted = {}, false
end

-- Hand this worker's counts over, if it is time.
function M.tick(now)
    if (changed_count == 0 and not wanted) or now < handed_over + PERIOD then
        return
    end
    handed_over = now
    if wanted then
        hand_demand_over()
    end
    local due, count = changed, changed_count
    changed, changed_count = {}, 0
    for i = 1, count do
        hand_over(due[i])
    end
end

-- The handler of GET /figures: lines of JSON, each [[kind, destination, ...], number].
function M.show()
    handed_over = 0
    M.tick(ngx.now())
    for i, name in ipairs(shared:get_keys(0)) do
        ngx.print("[", name, ",", shared:get(name) or 0, "]\n")
        if i % AT_ONCE == 0 then
            ngx.sleep(PAUSE)
        end
    end
    for _, budget in ipairs(slices:get_keys(0)) do
        ngx.print("[", cjson.encode({ "share", budget }), ",", slices:get(budget) or 0, "]\n")
    end
end

return M
