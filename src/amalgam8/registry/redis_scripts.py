"""What is decided inside Redis or Valkey: Lua scripts, and the keys that they work on.

All keys of a tenant share a hash tag, so that a script stays within one slot of a cluster. Each script
that changes an instance writes the change into the tenant's stream as the entry ``<revision>-0``. Refuses
a caller that names another epoch, or has seen a later revision than there is: ``lost``.
"""

from urllib.parse import quote

SECOND = 1_000_000
"""Times are whole microseconds."""

FORM_KEY = "{a8r}:form"
FORM = 1
"""Number of the form in which all of this is kept; a registry refuses one that is higher than its own."""

EPOCH = "{a8r}:epoch"
TENANTS = "{a8r}:tenants"
NEWS = "{a8r}:news"
"""A stream of what concerns all tenants: ``tenant`` is a new one, ``epoch`` another epoch."""


def keys_of(tenant: str) -> list[str]:
    """A tenant's keys in the order of KEYS: meta, instances, leases, late, heard, stream.

    ``instances`` is a hash of id → ``<seconds of lease, 0: no end> <JSON>``; ``leases`` sorts ids by when
    they lapse, ``late`` by when two thirds of that are over, ``heard`` by when they were last heard of.
    """
    tag = "a8r:{" + quote(tenant, safe="") + "}:"
    return [tag + name for name in ("meta", "instances", "leases", "late", "heard", "stream")]


_SHARED = """
local meta, instances, leases, late, heard, stream = unpack(KEYS)
local epoch, seen = ARGV[3], tonumber(ARGV[4])
local known = redis.call('HMGET', meta, 'epoch', 'revision', 'tick', 'paused', 'stamp', 'frozen', 'released')
local revision = tonumber(known[2]) or 0

local function int(number) return string.format('%.0f', number) end

local wall = tonumber(ARGV[1])
if not wall then
  local time = redis.call('TIME')
  wall = time[1] * 1000000 + time[2]
end
"""
"""ARGV: now (empty: the server's time), pause, epoch, seen revision, length of the stream; then its own."""

_UNLESS_LOST = """
if known[1] ~= epoch or revision < seen then return {'lost'} end
"""

_LEASES = """
-- Leases run on the server's time without the stretches in which nobody could renew them: where no script
-- ran for longer than the pause (the server was down, or all registries were), or its clock jumped.
local tick, paused, pause = tonumber(known[3]), tonumber(known[4]) or 0, tonumber(ARGV[2])
if pause then
  local gap = wall - (tick or wall)
  if gap < 0 or gap > pause then paused = paused + gap end
  if not tick or gap < 0 or gap > pause / 4 then
    redis.call('HSET', meta, 'tick', int(wall), 'paused', int(paused))
  end
end
local now = wall - paused

local function record(what, id, body)
  revision = revision + 1
  redis.call('HSET', meta, 'revision', int(revision), 'stamp', int(wall))
  redis.call('XADD', stream, 'MAXLEN', '~', ARGV[5], int(revision) .. '-0',
    'what', what, 'id', id, 'heard', int(wall), 'body', body)
  return {int(revision), what, id, int(wall), body}
end

local function hold(id, seconds)
  if seconds > 0 then
    redis.call('ZADD', leases, int(now + seconds * 1000000), id)
    redis.call('ZADD', late, int(now + seconds * 2000000 / 3), id)
  else
    redis.call('ZREM', leases, id)
    redis.call('ZREM', late, id)
  end
  redis.call('ZADD', heard, int(wall), id)
end

local function forget(id)
  redis.call('ZREM', leases, id)
  redis.call('ZREM', late, id)
  redis.call('ZREM', heard, id)
  return redis.call('HDEL', instances, id) == 1
end
"""

REGISTER = (
    _SHARED
    + _UNLESS_LOST
    + _LEASES
    + """
-- own: id, seconds, JSON, capacity (-1: none) → renewed, wall | done, entry | full
local id, capacity, value = ARGV[6], tonumber(ARGV[9]), ARGV[7] .. ' ' .. ARGV[8]
local held = redis.call('HGET', instances, id)
if not held and capacity >= 0 and redis.call('HLEN', instances) >= capacity then return {'full'} end
hold(id, tonumber(ARGV[7]))
if held == value then return {'renewed', int(wall)} end
redis.call('HSET', instances, id, value)
return {'done', record(held and 'changed' or 'registered', id, ARGV[8])}
"""
)

REPLACE = (
    _SHARED
    + _UNLESS_LOST
    + _LEASES
    + """
-- own: id, seconds, JSON, the JSON that it replaces → renewed, wall | done, entry | gone | stale, JSON
local id, value = ARGV[6], ARGV[7] .. ' ' .. ARGV[8]
local held = redis.call('HGET', instances, id)
if not held then return {'gone'} end
local body = string.match(held, '^%d+ (.*)$')
if body ~= ARGV[9] then return {'stale', body} end
hold(id, tonumber(ARGV[7]))
if held == value then return {'renewed', int(wall)} end
redis.call('HSET', instances, id, value)
return {'done', record('changed', id, ARGV[8])}
"""
)

RENEW = (
    _SHARED
    + _UNLESS_LOST
    + _LEASES
    + """
-- own: ids → renewed, wall, ids that are unknown
local unknown = {}
for index = 6, #ARGV do
  local held = redis.call('HGET', instances, ARGV[index])
  if held then
    hold(ARGV[index], tonumber(string.match(held, '^%d+')))
  else
    unknown[#unknown + 1] = ARGV[index]
  end
end
return {'renewed', int(wall), unknown}
"""
)

REMOVE = (
    _SHARED
    + _UNLESS_LOST
    + _LEASES
    + """
-- own: id → done, entry | gone
if not forget(ARGV[6]) then return {'gone'} end
return {'done', record('removed', ARGV[6], '')}
"""
)

EXPIRE = (
    _SHARED
    + _UNLESS_LOST
    + _LEASES
    + """
-- The longest time to live, in seconds, of what has lapsed since expiry froze. What lapses is looked at once.
local function longest_held(released)
  local at = redis.call('HMGET', meta, 'looked', 'longest')
  local from, longest = tonumber(at[1]) or released, tonumber(at[2]) or 0
  local upto = '(' .. int(now)
  local found = redis.call('ZRANGEBYSCORE', leases, int(from), upto, 'WITHSCORES', 'LIMIT', 0, 10000)
  for index = 1, #found, 2 do
    local held = redis.call('HGET', instances, found[index])
    longest = math.max(longest, held and tonumber(string.match(held, '^%d+')) or 0)
    from = tonumber(found[index + 1])
  end
  redis.call('HSET', meta, 'looked', int(from), 'longest', int(longest))
  return longest
end

-- own: how many at the most, a time, how long expiry may be frozen (empty: it never is)
-- → done, entries, ids heard of since that time with their times, whether it is frozen
local frozen, released, upto = tonumber(known[6]), tonumber(known[7]) or 0, now
local limit = tonumber(ARGV[8])
if limit then
  -- As ``registry.preservation`` has it. Those that a freeze held to its end are as good as gone, and count
  -- no more.
  local held = redis.call('ZCOUNT', leases, '-inf', '(' .. int(released))
  local total = redis.call('ZCARD', leases) - held
  local behind = redis.call('ZCOUNT', late, '-inf', '(' .. int(now)) - held
  local many = behind >= 5 and behind * 100 >= total * 15
  local lapsed = redis.call('ZCOUNT', leases, int(released), '(' .. int(now))
  if not frozen and many and lapsed > 0 then
    frozen = now
    redis.call('HDEL', meta, 'calm', 'looked', 'longest')
    redis.call('HSET', meta, 'frozen', int(now))
    longest_held(released)
  elseif frozen then
    local longest, calm = longest_held(released), tonumber(redis.call('HGET', meta, 'calm'))
    if many then
      calm = nil
      redis.call('HDEL', meta, 'calm')
    elseif not calm then
      calm = now
      redis.call('HSET', meta, 'calm', int(now))
    end
    local over = calm and (lapsed == 0 or now - calm >= longest * 1000000 / 3)
    if over or now - frozen >= limit then
      frozen = nil
      redis.call('HDEL', meta, 'frozen')
      if not over then
        released = now
        redis.call('HSET', meta, 'released', int(now))
      end
    end
  end
  if frozen then upto = released end
end
local entries = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', '(' .. int(upto), 'LIMIT', 0, ARGV[6])) do
  forget(id)
  entries[#entries + 1] = record('expired', id, '')
end
local since = redis.call('ZRANGEBYSCORE', heard, ARGV[7], '+inf', 'WITHSCORES')
return {'done', entries, since, limit and frozen and 1 or 0}
"""
)

LOAD = (
    _SHARED
    + """
-- own: whether to take over what another epoch left → done, revision, stamp, instances, heard
if known[1] and known[1] ~= epoch and ARGV[6] == '' then return {'lost'} end
if known[1] ~= epoch then redis.call('HSET', meta, 'epoch', epoch) end
return {'done', int(revision), known[5] or '0', redis.call('HGETALL', instances),
  redis.call('ZRANGE', heard, 0, -1, 'WITHSCORES')}
"""
)

CHECK = (
    _SHARED
    + _UNLESS_LOST
    + """
-- own: the stamp of the revision seen → done | lost. Revisions that a crash took may have been given anew.
local entry = redis.call('XRANGE', stream, int(seen) .. '-0', int(seen) .. '-0')[1]
local stamp = entry and entry[2][6] or (revision == seen and known[5]) or ARGV[6]
return {stamp == ARGV[6] and 'done' or 'lost'}
"""
)

RESTORE = (
    _SHARED
    + """
-- own: id, seconds, JSON, heard of each instance seen → done | kept
if known[1] == epoch or (known[1] and revision >= seen) then return {'kept'} end
redis.call('DEL', unpack(KEYS))
for index = 6, #ARGV, 4 do
  local id, seconds = ARGV[index], tonumber(ARGV[index + 1])
  redis.call('HSET', instances, id, ARGV[index + 1] .. ' ' .. ARGV[index + 2])
  redis.call('ZADD', heard, ARGV[index + 3], id)
  if seconds > 0 then
    redis.call('ZADD', leases, int(wall + seconds * 1000000), id)
    redis.call('ZADD', late, int(wall + seconds * 2000000 / 3), id)
  end
end
redis.call('HSET', meta, 'epoch', epoch, 'revision', int(seen), 'stamp', int(wall), 'tick', int(wall))
return {'done'}
"""
)

BEGIN = """
-- KEYS: epoch, tenants, news, form. ARGV: a new epoch, the one to replace, this form
-- → form, if it is a later one | form, epoch, place in the news, tenants
redis.call('SETNX', KEYS[4], ARGV[3])
local form = tonumber(redis.call('GET', KEYS[4]))
if form > tonumber(ARGV[3]) then return {form} end
local epoch = redis.call('GET', KEYS[1])
if not epoch or epoch == ARGV[2] then
  epoch = ARGV[1]
  redis.call('XADD', KEYS[3], 'MAXLEN', '~', 100000, '*', 'epoch', epoch)
end
redis.call('SET', KEYS[1], epoch)  -- always, since a server that takes no writes is of no use
local last = redis.call('XREVRANGE', KEYS[3], '+', '-', 'COUNT', 1)[1]
return {form, epoch, last and last[1] or '0-0', redis.call('SMEMBERS', KEYS[2])}
"""

JOIN = """
-- KEYS: tenants, news. ARGV: a tenant
if redis.call('SADD', KEYS[1], ARGV[1]) == 1 then
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', 100000, '*', 'tenant', ARGV[1])
end
"""

SCRIPTS = (REGISTER, REPLACE, RENEW, REMOVE, EXPIRE, LOAD, CHECK, RESTORE, BEGIN, JOIN)
