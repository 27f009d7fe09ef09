-- The second pass of an attempt that has a fault and is not the first: it holds, answers, or closes, as if
-- it were the instance, so that nginx treats the outcome as the instance's. Else it goes on to the instance.

local M = {}

-- The handler of every request on the hop's socket; its header says "SECONDS STATUS URL NAME".
function M.handle()
    local var = ngx.var
    local held, status, url, name = (var.http_x_a8_hop or ""):match("^(%S+) (%S+) (%S+) (%S+)$")
    if not held then
        return ngx.exit(400)
    end
    if tonumber(held) > 0 then
        ngx.sleep(tonumber(held))
    end
    if status == "-1" then
        return ngx.exit(444)
    elseif status ~= "0" then
        ngx.status = tonumber(status)
        ngx.header["content-length"] = 0
        ngx.send_headers()
        return ngx.exit(ngx.status)
    end
    var.a8_name = name
    if (var.http_content_type or ""):sub(1, 16) == "application/grpc" then
        var.a8_to = url:gsub("^http", "grpc")
        return ngx.exec("@a8_grpc")
    end
    var.a8_to = url
    return nil
end

return M
