-- The second pass of an attempt that has a fault and is not the first: it holds, answers, or closes, as if it
-- were the instance, so that nginx treats the outcome as the instance's. Else it goes on to the instance; a
-- masked answer of 5xx becomes one that nginx repeats.

local headers = require "a8.headers"

local M = {}

local function masked(status)
    return status >= 500 and 503 or status
end

-- The handler of every request on the hop's socket; its header says "SECONDS STATUS URL NAME masked|plain".
function M.handle()
    local var = ngx.var
    local pattern = "^(%S+) (%S+) (%S+) (%S+) (%S+)$"
    local held, status, url, name, way = (var.http_x_a8_hop or ""):match(pattern)
    if not held then
        return ngx.exit(400)
    end
    if tonumber(held) > 0 then
        ngx.sleep(tonumber(held))
    end
    if status == "-1" then
        return ngx.exit(444)
    elseif status ~= "0" then
        ngx.status = way == "masked" and masked(tonumber(status)) or tonumber(status)
        ngx.header["content-length"] = 0
        ngx.send_headers()
        return ngx.exit(ngx.status)
    end
    var.a8_name, var.a8_way = name, way
    if headers.is_grpc(var.http_content_type) then
        var.a8_to = url:gsub("^http", "grpc")
        return ngx.exec("@a8_grpc")
    end
    var.a8_to = url
    return nil
end

-- The handler of the answer's headers.
function M.mask()
    if ngx.var.a8_way == "masked" then
        ngx.status = masked(ngx.status)
    end
end

return M
