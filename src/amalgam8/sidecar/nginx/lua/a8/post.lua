-- Takes a document by POST: lines of JSON, the first {"generation", "base", "removed"}, then one for each
-- service that changed since ``base`` (0: every service). All of it is built before any of it counts; what
-- cannot be built refuses the whole. The answer comes when every worker follows it.

jit.off(true, true)  -- it runs for changes, not for calls: what is compiled stays in memory

local apply = require "a8.apply"
local build = require "a8.build"
local cjson = require "cjson.safe"
local ffi = require "ffi"

local documents, shared = ngx.shared.a8_documents, ngx.shared.a8_state

ffi.cdef [[ int kill(int pid, int sig); ]]

local AT_ONCE = 15
local PAUSE = 0.001
local WITHIN = 10  -- seconds for all workers to follow

local M = {}

local function answer(status, body)
    ngx.status = status
    ngx.header["content-type"] = "application/json"
    ngx.print(cjson.encode(body))
    return ngx.exit(status)
end

local function body()
    ngx.req.read_body()
    local data = ngx.req.get_body_data()
    if data then
        return data
    end
    local name = ngx.req.get_body_file()
    local file = name and io.open(name, "rb")
    if not file then
        return ""
    end
    data = file:read("*a")
    file:close()
    return data
end

local function refused(reason, service)
    error({ reason = reason, service = service }, 0)
end

-- The head, the services built, and their lines by name.
local function read(text)
    local head, made, lines, count = nil, {}, {}, 0
    if text:sub(-1) ~= "\n" then
        refused("the document is cut short")
    end
    for line in text:gmatch("[^\n]+") do
        local document = cjson.decode(line)
        if type(document) ~= "table" then
            refused("a line is no JSON object")
        end
        if not head then
            head = document
            if type(head.generation) ~= "number" or type(head.base) ~= "number" then
                refused("the first line has no generation and base")
            end
        else
            local fine, service = pcall(build.service, document)
            if not fine then
                refused(tostring(service), type(document.name) == "string" and document.name or nil)
            end
            made[service.name], lines[service.name] = service, line
            count = count + 1
            if count % AT_ONCE == 0 then
                ngx.sleep(PAUSE)
            end
        end
    end
    if not head then
        refused("the document is empty")
    end
    return head, made, lines
end

local function keep(key, value)
    local fine, problem = documents:safe_set(key, value)
    if not fine then
        refused("there is no room for the document: " .. problem)
    end
end

-- Write the generation's services and index; gives the keys that the generation before it leaves unused.
local function store(head, lines)
    local old = {}
    local index = documents:get("index:" .. head.base)
    local entries = index and cjson.decode(index) or {}
    for name, changed in pairs(head.base == 0 and entries or {}) do
        old[#old + 1] = apply.key(changed, name)
    end
    if head.base == 0 then
        entries = {}
    end
    for _, name in ipairs(head.removed or {}) do
        if entries[name] then
            old[#old + 1] = apply.key(entries[name], name)
            entries[name] = nil
        end
    end
    for name, line in pairs(lines) do
        if entries[name] then
            old[#old + 1] = apply.key(entries[name], name)
        end
        keep(apply.key(head.generation, name), line)
        entries[name] = head.generation
    end
    keep("index:" .. head.generation, cjson.encode(entries))
    return old
end

local function follow(head, made)
    apply.alone(function() apply.load(head.generation, true, made) end)
    local workers = ngx.worker.count()
    local limit = ngx.now() + WITHIN
    while apply.followers(head.generation) < workers do
        if ngx.now() > limit then
            return false
        end
        ngx.sleep(PAUSE)
        ngx.update_time()
    end
    return true
end

local function take(text)
    local current = documents:get("generation") or 0
    local head, made, lines = read(text)
    if head.base ~= 0 and head.base ~= current then
        return 409, { error = "the document is based on another generation", generation = current }
    end
    if head.generation <= current then
        return 409, { error = "the generation is not newer", generation = current }
    end
    local before = current
    local old = store(head, lines)
    if head.base == 0 and before ~= 0 then
        for name, changed in pairs(cjson.decode(documents:get("index:" .. before) or "{}") or {}) do
            old[#old + 1] = apply.key(changed, name)
        end
    end
    documents:set("generation", head.generation)
    local all = follow(head, made)
    if all then  -- nobody needs what the generation before it had on its own
        for _, key in ipairs(old) do
            documents:delete(key)
        end
        documents:delete("index:" .. before)
    end
    return all and 200 or 504, { generation = head.generation, workers = ngx.worker.count() }
end

-- Whether the process is there; a killed worker may have left its mark.
local function lives(pid)
    return ffi.C.kill(pid, 0) == 0
end

-- One document at a time.
local function begin()
    local pid, holder = ngx.worker.pid(), shared:get("posting")
    if holder and not lives(holder) then
        shared:delete("posting")
    end
    return shared:add("posting", pid, WITHIN * 3)
end

-- The handler of POST /document.
function M.handle()
    local text = body()  -- ahead of the lock: who sends it may stop in the middle
    if not begin() then
        return answer(409, { error = "another document is being taken" })
    end
    local fine, status, reply = pcall(take, text)
    shared:delete("posting")
    if fine then
        return answer(status, reply)
    end
    local problem = status
    if type(problem) ~= "table" then
        ngx.log(ngx.ERR, "a document was refused: ", problem)
        problem = { reason = "the document cannot be read" }
    end
    return answer(400, { error = problem.reason, service = problem.service })
end

return M
