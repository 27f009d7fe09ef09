-- Lines on their way to a file: kept until there are many of them or they are old, then appended at one
-- stroke. The file is opened each time, so that one that was put aside gets no more.

local buffer = require "string.buffer"
local ffi = require "ffi"

local MANY = 60000  -- bytes; beyond 64 KB a buffer takes twice as much
local OLD = 1  -- second

ffi.cdef [[
    size_t fwrite(const void *bytes, size_t size, size_t count, void *file);
]]

local M = {}

local all = {}

local function append(lines, now)
    local text = lines.text
    local bytes, size = text:ref()
    local file, problem = io.open(lines.path, "a")
    if file then
        file:setvbuf("no")  -- in one piece, since other workers append too
        if ffi.C.fwrite(bytes, 1, size, file) ~= size then
            problem = "it could not be written to"
        end
        file:close()
    end
    text:reset()
    lines.appended = now
    return problem
end

-- Lines for the file at ``path``: add them to ``text``, and say so with ``added``. Raises an error where
-- nothing can be written there.
function M.to(path)
    local lines = { path = path, text = buffer.new(), appended = 0 }
    local problem = append(lines, 0)
    if problem then
        error(problem, 0)
    end
    all[#all + 1] = lines
    return lines
end

-- Append what there is; what cannot be written is lost, and the log says so.
local function flush(lines, now)
    local problem = append(lines, now)
    if problem then
        ngx.log(ngx.ERR, "access records are lost: ", problem)
    end
end

-- A line was added.
function M.added(lines)
    if #lines.text >= MANY then
        flush(lines, ngx.now())
    end
end

-- Append what is old.
function M.tick(now)
    for i = 1, #all do
        local lines = all[i]
        if #lines.text > 0 and now >= lines.appended + OLD then
            flush(lines, now)
        end
    end
end

-- Append all, since the worker ends.
function M.finish()
    M.tick(math.huge)
end

return M
