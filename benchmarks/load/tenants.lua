-- Lookups by TENANTS tenants in turn, who are known by their names.
local number, at = tonumber(os.getenv("TENANTS")), 0

function request()
  at = at % number + 1
  return wrk.format("GET", nil, { ["Authorization"] = "Bearer t" .. at })
end
