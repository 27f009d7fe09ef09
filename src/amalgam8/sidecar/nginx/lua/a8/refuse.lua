-- The mesh's own answers: a status, the reason in a header, and a small JSON body.

local cjson = require "cjson.safe"

local STATUS = { unknown = 404, unavailable = 503, denied = 403, limited = 429 }
local SENTENCE = {
    unknown = "no such service",
    unavailable = "no instance of the service can take the call",
    denied = "the rules do not allow this call",
    limited = "too many calls",
}

local M = {}

-- Answer and end the request. ``key`` is the service's name as it stands in paths.
function M.answer(kind, service, key, rule)
    ngx.status = STATUS[kind]
    ngx.header["x-a8-reason"] = ("%s; service=%s; rule=%s"):format(kind, key, rule)
    ngx.header["content-type"] = "application/json"
    local body = {
        error = SENTENCE[kind],
        service = service,
        rule = rule,
    }
    local encoded = cjson.encode(body) .. "\n"
    ngx.header["content-length"] = #encoded
    if ngx.req.get_method() ~= "HEAD" then
        ngx.print(encoded)
    else
        ngx.send_headers()
    end
    return ngx.exit(ngx.status)
end

-- Answer for a failure of the way to the instance; no rule spoke, so nothing says that it was the mesh.
function M.failed(status)
    ngx.status = status
    ngx.header["content-type"] = "text/plain"
    ngx.header["content-length"] = 0
    ngx.send_headers()
    return ngx.exit(status)
end

-- The client gets no complete answer.
function M.close()
    return ngx.exit(444)
end

return M
