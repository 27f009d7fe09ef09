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

-- Note the rules that acted, in order, and the traces ({key, value}) of the call.
function M.note(rules, traces)
    local var = ngx.var
    if not traces then
        if not rules[1] then
            return
        elseif not rules[2] then
            var.a8_rule = rules[1]
            return
        end
    end
    local parts = {}
    local path, method = var.request_uri, var.request_method
    add(parts, "path", path)
    add(parts, "user_agent", headers.get("user-agent"))
    add(parts, "x_forwarded", headers.get("x-forwarded-for"))
    add(parts, "request_id", var.a8_request_id)
    add(parts, "auth", headers.get("host"))
    add(parts, "message", method .. " " .. path)
    parts[#parts + 1] = '"rules":' .. cjson.encode(rules[1] and rules or cjson.empty_array)
    for _, trace in ipairs(traces or {}) do
        parts[#parts + 1] = cjson.encode(trace.key) .. ":" .. cjson.encode(trace.value or "")
    end
    var.a8_more = table.concat(parts, ",")
end

return M
