-- A number for each call, from which the configuration makes a request id and a trace: 12 hexadecimal digits,
-- 4 of the worker and 8 that count. Unique beside the digits of nginx's start, and cheap; no secret.

local tohex = require("bit").tohex

local STEP = 0x9E3779B1  -- odd, so that all numbers come before one comes again, and neighbours look unlike

local prefix, number = "", 0

local M = {}

-- Begin anew, in a worker.
function M.start()
    prefix, number = tohex(ngx.worker.pid(), 4), math.random(0, 0xFFFFFFFF)
end

-- The number of one more call.
function M.next()
    number = (number + STEP) % 0x100000000
    return prefix .. tohex(number)
end

return M
