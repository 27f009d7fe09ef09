-- The mesh's own answers: a status, the reason in a header, and a small JSON body.

local cjson = require "cjson.safe"

local context = require "a8.context"
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

-- Answer and end the request; ``refused`` has reason, name and key (the name as it stands in paths) of the
-- service, and rule.
function M.answer(refused, flag)
    local kind, var = refused.reason, ngx.var
    ngx.status = STATUS[kind]
    ngx.header["x-a8-reason"] = ("%s; service=%s; rule=%s"):format(kind, refused.key, refused.rule)
    ngx.header["content-type"] = "application/json"
    local body = {
        error = SENTENCE[kind],
        service = refused.name,
        rule = refused.rule,
    }
    local said = record.of(context.get() or refused)
    if refused.rule ~= "" and not said.rules then
        var.a8_rule = refused.rule
    end
    if refused.service and (var.a8_dst or "") == "" then
        var.a8_dst = refused.name
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
    call.reason = "unavailable"
    local service = call.service
    return M.answer({
        reason = "unavailable",
        service = service,
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
