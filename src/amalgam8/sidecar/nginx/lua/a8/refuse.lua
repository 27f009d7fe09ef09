-- The mesh's own answers: a status, the reason in a header, and a small JSON body.

local cjson = require "cjson.safe"

local record = require "a8.record"

local STATUS = { unknown = 404, unavailable = 503, denied = 403, limited = 429 }
local SENTENCE = {
    unknown = "no such service",
    unavailable = "no instance of the service can take the call",
    denied = "the rules do not allow this call",
    limited = "too many calls",
}

local FLAG = { unknown = "NR", unavailable = "UH", limited = "RL" }  -- the other proxy's letters in records

local M = {}

-- Answer and end the call; ``refused`` has reason, name and key (the name as it stands in paths) of the
-- service, and rule.
function M.answer(call, refused, flag)
    local kind = refused.reason
    ngx.status = STATUS[kind]
    ngx.header["x-a8-reason"] = ("%s; service=%s; rule=%s"):format(kind, refused.key, refused.rule)
    ngx.header["content-type"] = "application/json"
    local body = {
        error = SENTENCE[kind],
        service = refused.name,
        rule = refused.rule,
    }
    local said = record.of(call)
    call.reason = kind
    if refused.rule ~= "" and not said.rules then
        call.rule = refused.rule
    end
    if call.service then
        said.dst = said.dst or refused.name
    end
    said.flags = flag or FLAG[kind]
    local encoded = cjson.encode(body) .. "\n"
    ngx.header["content-length"] = #encoded
    if ngx.req.get_method() ~= "HEAD" then
        ngx.print(encoded)
    else
        ngx.send_headers()
    end
    return ngx.exit(ngx.status)
end

-- Answer that no instance can take the call.
function M.call(call, flag)
    local service = call.service
    return M.answer(call, {
        reason = "unavailable",
        name = service.name,
        key = service.key,
        rule = call.route.rule,
    }, flag)
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
