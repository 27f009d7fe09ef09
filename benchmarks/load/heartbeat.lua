-- Heartbeats of the instances whose ids stand in the file named by IDS, one after another.
local ids, at = {}, 0
for id in io.lines(os.getenv("IDS")) do ids[#ids + 1] = id end

function request()
  at = at % #ids + 1
  return wrk.format("PUT", "/api/v1/instances/" .. ids[at] .. "/heartbeat")
end
