-- Bodies whose length nobody said. nginx repeats or copies a call only once it has all of the body, and waits
-- for its end however long that takes. So where rules may ask for that, such a call is led here first, as it
-- comes: a short body that ends soon gets its length, any other goes on as it is. Either is sent once more,
-- to our own server, where the call is decided.

local headers = require "a8.headers"
local odd = require "a8.odd"

local find, sub = string.find, string.sub

local MOST = 262144 + 16384  -- what is kept of a body that is repeated, and what says where its chunks end
local PAUSE = 1000  -- milliseconds without a byte after which the body is no longer waited for
local LAST = "0\r\n\r\n"
local PIECE = 65536

-- Written by the server that led the call here, in place of any of these names; nginx's variables of these
-- names would also hold what an app may send with underscores.
local PROTOCOL = "\r\nx%-a8%-protocol: (HTTP/[%d.]+)"
local CHUNKED = "\r\nTransfer%-Encoding: chunked"

local SENDS = { PUT = true, POST = true, PATCH = true }

local M = {}

-- Whether a body may come at all.
function M.may_come(get)
    return get("content-length") or get("content-type") or get("transfer-encoding")
        or SENDS[ngx.req.get_method()] and ngx.req.http_version() >= 2
end

-- Whether a body may come of which neither the length is known nor whether it ends at all.
function M.is_open(get)
    if get("content-length") or get("upgrade") then
        return false
    end
    if headers.is_grpc(get("content-type")) then
        return false
    end
    if get("transfer-encoding") then
        return true
    end
    -- HTTP/2 may send a body without saying so.
    return ngx.req.http_version() >= 2 and SENDS[ngx.req.get_method()] or false
end

-- Whether the call at hand has such a body, and has not been here yet.
function M.wanted(get)
    return not headers.odd and M.is_open(get)
end

-- What is in a body of chunks; nil: it does not end here.
local function joined(chunks)
    local parts, at = {}, 1
    while true do
        local _, last, digits = find(chunks, "^(%x+)\r\n", at)
        local size = tonumber(digits or "", 16)
        if not size or size == 0 then
            return size and last + 2 == #chunks and table.concat(parts) or nil
        end
        parts[#parts + 1] = sub(chunks, last + 1, last + size)
        at = last + size + 3
    end
end

-- What has come of the body, or, where that is all of it, nil and what is in it. Neither: the app has gone.
local function read(app)
    local pieces, size, ending = {}, 0, ""
    app:settimeouts(PAUSE, PAUSE, PAUSE)
    while size < MOST do
        local data, problem = app:receiveany(PIECE)
        if not data and problem ~= "timeout" then
            return nil
        elseif not data then
            break
        end
        pieces[#pieces + 1], size = data, size + #data
        ending = sub(ending .. data, -#LAST)
        local body = ending == LAST and joined(table.concat(pieces))
        if body then
            return nil, body
        end
    end
    return table.concat(pieces), nil
end

-- The handler of calls that were led here.
function M.handle()
    local var = ngx.var
    local app, problem = ngx.req.socket(true)
    if not app then
        ngx.log(ngx.ERR, "no body: ", problem)
        return ngx.exit(444)
    end
    local head, rest, length = "\r\n" .. ngx.req.raw_header(true), "", nil
    local spoken = head:match(PROTOCOL)
    head = head:gsub(PROTOCOL, "", 1)
    if head:find(CHUNKED) then
        local chunks, body = read(app)
        rest = chunks or body
        if not rest then
            return ngx.exit(444)
        end
        if body then
            head = head:gsub(CHUNKED, "", 1)
            length = #body
        end
    end
    local more = length and ("\r\ncontent-length: " .. length) or ""
    return odd.once_more(app, var.request_method, var.request_uri, spoken, { more, head, rest })
end

return M
