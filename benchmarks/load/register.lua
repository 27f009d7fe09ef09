-- Registrations of ever new instances of 100 services.
math.randomseed(os.time())
local network, at = math.random(1, 200), 0
local headers = { ["Content-Type"] = "application/json" }
local body = '{"service_name":"svc%d","endpoint":{"type":"http","value":"10.%d.%d.%d:8080"},'
  .. '"ttl":600,"tags":["v1"],"metadata":{"zone":"a"}}'

function init()
  headers["Authorization"] = wrk.headers["Authorization"]
end

function request()
  at = at + 1
  local address = { network + math.floor(at / 65536) % 50, math.floor(at / 256) % 256, at % 256 }
  return wrk.format("POST", "/api/v1/instances", headers, body:format(at % 100, unpack(address)))
end
