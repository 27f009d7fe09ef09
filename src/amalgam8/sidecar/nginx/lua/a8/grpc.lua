-- What gRPC needs beside its own locations: a path, since ``grpc_pass`` takes the request's own.

local find, sub = string.find, string.sub

local M = {}

-- Make ``path``, as it came after the service's name was cut off, the path of the request.
function M.set_path(path)
    if path == ngx.var.request_uri then
        return  -- passed on as it came
    end
    local mark = find(path, "?", 1, true)
    ngx.req.set_uri(ngx.unescape_uri(mark and sub(path, 1, mark - 1) or path))
    ngx.req.set_uri_args(mark and sub(path, mark + 1) or "")
end

return M
