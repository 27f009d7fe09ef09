-- What the access record says of a call of which there is more to say than of most: several rules, a trace, a
-- fault, more attempts or none. nginx writes all records; what its plain format takes for granted is said
-- here, at the end of such a call, with every word of the request escaped.

local cjson = require "cjson.safe"

local encode, floor = cjson.encode, math.floor

local M = {}

-- What there is to say of a call, to be added to: flags, fault, rules, traces, and the path asked for.
function M.of(call)
    local said = call.said
    if not said then
        said = {}
        call.said = said
    end
    return said
end

-- Note the first ``count`` rules, which acted in this order.
function M.rules(call, rules, count)
    if count == 1 then
        ngx.var.a8_rule = rules[1]
        return
    end
    local named = {}
    for i = 1, count do
        named[i] = rules[i]
    end
    M.of(call).rules = named
end

-- As nginx says it.
local function time(second)
    local zone = os.date("%z", second)
    return os.date("%Y-%m-%dT%H:%M:%S", second) .. zone:sub(1, 3) .. ":" .. zone:sub(4)
end

local function list(rules, only)
    if rules then
        return encode(rules)
    end
    return "[" .. encode(only and only ~= "" and only or "-") .. "]"
end

-- Say all of it, in place of the plain record. Where a call came to no location, it was given no id.
function M.write(said, attempts, started)
    local var = ngx.var
    local path, id = said.asked or var.request_uri or "", var.a8_id
    local parts = {
        '"start_time":', encode(time(floor(started))), ',"attempts":', attempts,
        ',"response_flags":', encode(said.flags or "-"), ',"fault":', said.fault and "true" or "false",
        ',"path":', encode(path),
        ',"user_agent":', encode(var.http_user_agent or ""),
        ',"x_forwarded":', encode(var.http_x_forwarded_for or ""),
        ',"request_id":', encode(id and id ~= "" and id or var.http_x_request_id or ""),
        ',"auth":', encode(var.http_host or ""),
        ',"message":', encode((var.request_method or "") .. " " .. path .. " " .. ngx.status),
        ',"rules":', list(said.rules, var.a8_rule),
    }
    for _, trace in ipairs(said.traces or {}) do
        parts[#parts + 1] = "," .. encode(trace.key) .. ":" .. encode(trace.value or "")
    end
    var.a8_more, var.a8_plain = table.concat(parts), ""
    if said.traces then
        var.a8_traced = "1"
    end
end

return M
