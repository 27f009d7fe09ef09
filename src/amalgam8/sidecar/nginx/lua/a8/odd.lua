-- Paths that nginx takes for malformed, a % that begins no escape say, and that an app may well take: its
-- parser answers them with 400 before any handler is asked. Such a call is sent once more, to our own server
-- on a unix socket, for the path "/"; its protocol and what was asked for stand in a header that only this
-- socket believes. What follows the first line, and all that comes back, passes as it is.

local headers = require "a8.headers"

local LONGEST = 3600000  -- milliseconds
local PIECE = 65536

local M = { socket = "" }

-- The path asked for, and the protocol, where this is such a call sent once more.
function M.target()
    local target = headers.odd
    if not target or ngx.var.server_addr ~= M.socket then
        headers.odd = nil
        return nil
    end
    ngx.header["connection"] = "close"  -- the next call may be an ordinary one
    local spoken, path = target:match("^(%S+) (.*)$")
    return path, spoken
end

local function pass(from, to)
    while true do
        local data = from:receiveany(PIECE)
        if not data or not to:send(data) then
            return
        end
    end
end

-- Send a call to our own server, for ``target``, whatever that is, in HTTP/1. ``spoken`` is what the app
-- speaks, ``rest`` what is known of what follows the header that says both; it begins with the line's end.
function M.once_more(app, method, target, spoken, rest)
    local version = spoken == "HTTP/1.0" and spoken or "HTTP/1.1"
    local server = ngx.socket.tcp()
    app:settimeouts(LONGEST, LONGEST, LONGEST)
    server:settimeouts(1000, LONGEST, LONGEST)
    if not server:connect(M.socket) then
        return ngx.exit(444)
    end
    server:send({ method, " / ", version, "\r\nx-a8-target: ", spoken, " ", target, rest })
    local sending = ngx.thread.spawn(pass, app, server)
    pass(server, app)
    ngx.thread.kill(sending)
    return ngx.exit(444)
end

-- The handler of the page for 400.
function M.handle()
    local method, target, version = ngx.var.request:match("^(%u+) (/[!-~\128-\255]*) (HTTP/1%.[01])$")
    if not method or ngx.var.request_uri or ngx.var.server_addr == M.socket then
        return ngx.exec("@a8_bad")
    end
    local app = ngx.req.socket(true)
    if not app then
        return ngx.exit(444)
    end
    return M.once_more(app, method, target, version, "\r\n")
end

return M
