"""What is decided inside Redis or Valkey: Lua scripts, and the keys that they work on.

All keys of a tenant share a hash tag, so that a script stays within one slot of a cluster. A change is kept,
put into the rules and told to every controller in one script: the tenant's log is the stream that they
follow, with the change as entry ``<revision>-0``. Refuses a caller that names another epoch, or has seen a
later revision than there is: ``lost``.
"""

from urllib.parse import quote

EPOCH = "{a8c}:epoch"
SECRET = "{a8c}:secret"  # noqa: S105 - the key under which it is
TENANTS = "{a8c}:tenants"
FORM_KEY = "{a8c}:form"
FORM = 1
"""Number of the form in which all of this is kept; a controller refuses one that is higher than its own."""

NEWS = "{a8c}:news"
"""A stream of what concerns all tenants: ``tenant`` is a new one, ``epoch`` another epoch."""

TOUCHED = 256
"""Entries of the log that a mirror starts with."""

SAID_KEPT = 4096
"""Entries of what controllers tell each other of sidecars; who is further behind asks for all of it."""


def keys_of(tenant: str) -> list[str]:
    """A tenant's keys in the order of KEYS: meta, rules, log, roster, words, said.

    ``rules`` is a hash of id → JSON of a rule and when it was written. ``roster`` has who each sidecar is,
    ``words`` what it reported last, ``said`` is the stream of news of both.
    """
    tag = "a8c:{" + quote(tenant, safe="") + "}:"
    return [tag + name for name in ("meta", "rules", "log", "roster", "words", "said")]


LEADER = "{a8c}:leader"
"""Which controller drives rollouts."""


def rollouts_of(tenant: str) -> str:
    """The key of a tenant's rollouts: a hash of id → ``<edition> <JSON>``."""
    return keys_of(tenant)[0].removesuffix("meta") + "rollouts"


_SHARED = """
local meta, rules, log, roster, words, said = unpack(KEYS)
local epoch, seen = ARGV[1], tonumber(ARGV[2])
local known = redis.call('HMGET', meta, 'epoch', 'revision', 'newest', 'unconfirmed', 'stamp')
local revision = tonumber(known[2]) or 0

local function int(number) return string.format('%.0f', number) end
"""
"""ARGV: epoch, revision seen; then its own."""

_UNLESS_LOST = """
if known[1] ~= epoch or revision < seen then return {'lost'} end
"""

_WRITING = """
local function put(at, from, count)
  -- count pairs of id and JSON, from there on
  for index = from, from + 2 * count - 1, 2 do
    redis.call('HSET', rules, ARGV[index], ARGV[index + 1])
  end
  redis.call('HSET', meta, 'epoch', epoch, 'revision', at, 'newest', ARGV[3], 'unconfirmed', ARGV[4],
    'stamp', ARGV[5])
end
"""

APPEND = (
    _SHARED
    + _UNLESS_LOST
    + _WRITING
    + """
-- own: newest, unconfirmed, stamp, expected revision, entries kept, change, how many rules go, their ids,
-- id and JSON of each rule that comes → done | superseded, revision
if revision ~= tonumber(ARGV[6]) then return {'superseded', int(revision)} end
local gone = tonumber(ARGV[9])
for index = 10, 9 + gone do redis.call('HDEL', rules, ARGV[index]) end
put(int(revision + 1), 10 + gone, (#ARGV - 9 - gone) / 2)
redis.call('XADD', log, 'MAXLEN', '=', ARGV[7], int(revision + 1) .. '-0',
  'change', ARGV[8], 'stamp', ARGV[5])
return {'done'}
"""
)

RESTORE = (
    _SHARED
    + _WRITING
    + """
-- own: newest, unconfirmed, stamp, revision, whether it was lost, how many rules, id and JSON of each,
-- revision and JSON of each change, oldest first → done | kept, revision
local lost, count, at = ARGV[7] ~= '', tonumber(ARGV[8]), tonumber(ARGV[6])
if (lost and revision >= at) or (not lost and revision > 0) then return {'kept', int(revision)} end
redis.call('DEL', rules, log)
put(ARGV[6], 9, count)
local last = 0
for index = 9 + 2 * count, #ARGV, 2 do
  last = tonumber(ARGV[index])
  redis.call('XADD', log, int(last) .. '-0', 'change', ARGV[index + 1], 'stamp', last == at and ARGV[5] or '',
    'restored', '1')
end
-- Followers are always told, and that all there is has to be loaded: nobody is shown the past step by step.
if last ~= at then redis.call('XADD', log, ARGV[6] .. '-0', 'change', '', 'stamp', ARGV[5]) end
return {'done'}
"""
)

LOAD = (
    _SHARED
    + f"""
-- own: whether to take over what another epoch left
-- → done, revision, newest, unconfirmed, stamp, rules, latest entries of the log, roster, words, end of said
if known[1] and known[1] ~= epoch and ARGV[3] == '' then return {{'lost'}} end
if known[1] ~= epoch then redis.call('HSET', meta, 'epoch', epoch) end
local last = redis.call('XREVRANGE', said, '+', '-', 'COUNT', 1)[1]
return {{'done', int(revision), known[3] or '0', known[4] or '', known[5] or '', redis.call('HVALS', rules),
  redis.call('XREVRANGE', log, '+', '-', 'COUNT', {TOUCHED}), redis.call('HGETALL', roster),
  redis.call('HGETALL', words), last and last[1] or '0-0'}}
"""
)

CHECK = (
    _SHARED
    + _UNLESS_LOST
    + """
-- own: the stamp of the revision seen → done | lost. Revisions that a crash took may have been given anew.
local entry = redis.call('XRANGE', log, int(seen) .. '-0', int(seen) .. '-0')[1]
local stamp = entry and entry[2][4] or (revision == seen and known[5]) or ARGV[3]
return {stamp == ARGV[3] and 'done' or 'lost'}
"""
)

REVISION = (
    _SHARED
    + _UNLESS_LOST
    + """
return {'done', int(revision)}
"""
)

HISTORY = (
    _SHARED
    + _UNLESS_LOST
    + """
-- own: highest and lowest revision, how many at most → done, entries, newest first
return {'done', redis.call('XREVRANGE', log, ARGV[3] .. '-0', ARGV[4] .. '-0', 'COUNT', ARGV[5])}
"""
)

TELL = (
    _SHARED
    + _UNLESS_LOST
    + f"""
-- own: who tells, all of it as JSON, then kind, id and JSON (or nothing: forgotten) of each → done
for index = 5, #ARGV, 3 do
  local kind, id, value = ARGV[index], ARGV[index + 1], ARGV[index + 2]
  if value == '' then
    redis.call('HDEL', roster, id)
    redis.call('HDEL', words, id)
  elseif kind ~= 'want' then
    redis.call('HSET', kind == 'who' and roster or words, id, value)
  end
end
redis.call('XADD', said, 'MAXLEN', '~', {SAID_KEPT}, '*', 'from', ARGV[3], 'told', ARGV[4])
return {{'done'}}
"""
)

ROLLOUT = """
-- KEYS: rollouts. ARGV: id, edition, JSON, ids that are not kept any more → done | superseded, edition
local held = redis.call('HGET', KEYS[1], ARGV[1])
local edition = held and tonumber(string.match(held, '^%d+')) or 0
if edition ~= tonumber(ARGV[2]) - 1 then return {'superseded', edition} end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ' ' .. ARGV[3])
for index = 4, #ARGV do redis.call('HDEL', KEYS[1], ARGV[index]) end
return {'done'}
"""

ROLLOUTS = """
-- KEYS: rollouts → each as '<edition> <JSON>'
return redis.call('HVALS', KEYS[1])
"""

LEAD = """
-- KEYS: lead. ARGV: who, milliseconds → 1: it leads until then, 0: another one does
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""

BEGIN = """
-- KEYS: epoch, secret, tenants, news, form. ARGV: a new epoch, the one to replace, a secret, this form
-- → form, if it is a later one
-- | form, epoch, secret, place in the news, tenants, whether what it is told is on its disk
redis.call('SETNX', KEYS[5], ARGV[4])
local form = tonumber(redis.call('GET', KEYS[5]))
if form > tonumber(ARGV[4]) then return {form} end
local epoch = redis.call('GET', KEYS[1])
if not epoch or epoch == ARGV[2] then
  epoch = ARGV[1]
  redis.call('XADD', KEYS[4], 'MAXLEN', '~', 100000, '*', 'epoch', epoch)
end
redis.call('SET', KEYS[1], epoch)  -- always, since a server that takes no writes is of no use
redis.call('SETNX', KEYS[2], ARGV[3])
local last = redis.call('XREVRANGE', KEYS[4], '+', '-', 'COUNT', 1)[1]
local durable = string.find(redis.call('INFO', 'persistence'), 'aof_enabled:1', 1, true)
return {form, epoch, redis.call('GET', KEYS[2]), last and last[1] or '0-0', redis.call('SMEMBERS', KEYS[3]),
  durable and 1 or 0}
"""

JOIN = """
-- KEYS: tenants, news. ARGV: a tenant
if redis.call('SADD', KEYS[1], ARGV[1]) == 1 then
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', 100000, '*', 'tenant', ARGV[1])
end
"""

SCRIPTS = (APPEND, RESTORE, LOAD, CHECK, REVISION, HISTORY, TELL, BEGIN, JOIN, ROLLOUT, ROLLOUTS, LEAD)
