-- What the access record says of a call's rules. nginx writes the records; only what its formats cannot
-- say, several rules or a trace, is put together here, with every word of the request escaped.

local cjson = require "cjson.safe"

local headers = require "a8.headers"

local M = {}

local function add(parts, name, value)
    if value and value ~= "" then
        parts[#parts + 1] = cjson.encode(name) .. ":" .. cjson.encode(value)
    end
end

-- Note the first ``count`` rules, which acted in this order, and the traces ({key, value}) of the call.
function M.note(rules, count, traces)
    local var = ngx.var
    if not traces and count == 1 then
        var.a8_rule = rules[1]
        return
    end
    local named = {}
    for i = 1, count do
        named[i] = cjson.encode(rules[i])
    end
    local parts = {}
    local path, method = headers.odd or var.request_uri, var.request_method
    add(parts, "path", path)
    add(parts, "user_agent", headers.get("user-agent"))
    add(parts, "x_forwarded", headers.get("x-forwarded-for"))
    add(parts, "request_id", var.a8_id)
    add(parts, "auth", headers.get("host"))
    add(parts, "message", method .. " " .. path)
    parts[#parts + 1] = '"rules":[' .. table.concat(named, ",") .. "]"
    for _, trace in ipairs(traces or {}) do
        parts[#parts + 1] = cjson.encode(trace.key) .. ":" .. cjson.encode(trace.value or "")
    end
    var.a8_more, var.a8_plain = table.concat(parts, ","), ""
    if traces then
        var.a8_traced = "1"
    end
end

-- Note that no attempt was made. Where the call came to no location, nothing has been said of it.
function M.none()
    local var = ngx.var
    var.a8_attempts = "0"
    if var.a8_start == "" then
        var.a8_start, var.a8_plain, var.a8_fault = var.time_iso8601, "1", "false"
        var.a8_flags = var.a8_flags ~= "" and var.a8_flags or "-"
        var.a8_rule = var.a8_rule ~= "" and var.a8_rule or "-"
        var.a8_id = var.http_x_request_id
    end
end

return M
