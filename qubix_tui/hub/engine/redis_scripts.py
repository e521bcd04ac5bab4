"""What runs inside Redis: each script is one step, whole or not at all.

The keys, all behind one prefix:

- ``meta``, a hash: ``form``, ``epoch``, ``run`` (which life of the server wrote last), ``holder`` (the hub
  that may write, and which of its connections), ``seq`` (the last commit), ``batch`` (the first of those
  that were sent together with it), ``forgotten`` (the highest offset of a channel that nobody remembers).
- ``lease``: who holds the store, for people and for other hubs; it runs out.
- ``results``, a hash: what the commits of the last batch came to, for a hub whose connection broke before it
  was told.
- ``offsets``, a hash, and ``used``, a sorted set: each channel's newest offset, and when it was given.
- ``table:NAME``, a hash, and ``index:NAME``, a sorted set of its keys: what a prefix finds without a scan.
- ``events:CHANNEL``, a stream whose ids are offsets.
"""

from typing import Final

FORM: Final = b"1"
"""Which arrangement of keys these scripts know."""

MOVING: Final = b"moving"
MOVED: Final = b"moved"
"""What stands in place of the form while a store is filled by a move, and once it was moved elsewhere."""

COMMIT: Final = """
local prefix = ARGV[1]
local meta, results = prefix .. 'meta', prefix .. 'results'
local offsets, used = prefix .. 'offsets', prefix .. 'used'
local holder, seq, batch, grows = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local now, max_events, max_age, max_offsets = tonumber(ARGV[6]), ARGV[7], tonumber(ARGV[8]), tonumber(ARGV[9])
local at = 9
local function take() at = at + 1; return ARGV[at] end

local found = redis.call('HGET', meta, 'holder')
if not found then return cmsgpack.pack({'lost'}) end
if found ~= holder then
  return cmsgpack.pack({'fenced', redis.call('GET', prefix .. 'lease') or ''})
end

local function finish(reply)
  local packed = cmsgpack.pack(reply)
  redis.call('HSET', results, seq, packed)
  redis.call('HSET', meta, 'seq', seq)
  return packed
end

-- The first write decides whether a full Redis refuses all of it; after that nothing is refused.
local function begin()
  if grows == '1' then
    redis.call('HSET', meta, 'seq', seq)
  else
    redis.call('HDEL', results, '')
  end
  if redis.call('HGET', meta, 'batch') ~= batch then
    redis.call('DEL', results)
    redis.call('HSET', meta, 'batch', batch)
  end
end

for number = 1, tonumber(take()) do
  local name, key, there, value = take(), take(), take(), take()
  if redis.call('HGET', prefix .. 'table:' .. name, key) ~= (there == '1' and value) then
    begin()
    return finish({'conflict', number})
  end
end
begin()

for _ = 1, tonumber(take()) do
  local name, key, there, value = take(), take(), take(), take()
  if there == '1' then
    redis.call('HSET', prefix .. 'table:' .. name, key, value)
    redis.call('ZADD', prefix .. 'index:' .. name, 0, key)
  else
    redis.call('HDEL', prefix .. 'table:' .. name, key)
    redis.call('ZREM', prefix .. 'index:' .. name, key)
  end
end

local given = {}
for number = 1, tonumber(take()) do
  local channel, kind, data = take(), take(), take()
  local stream = prefix .. 'events:' .. channel
  local offset = redis.call('HGET', offsets, channel) or redis.call('HGET', meta, 'forgotten')
  given[number] = tonumber(offset) + 1
  offset = string.format('%.0f', given[number])
  redis.call('HSET', offsets, channel, offset)
  redis.call('ZADD', used, seq, channel)
  redis.call('XADD', stream, 'MAXLEN', '~', max_events, offset .. '-0', 't', kind, 'd', data, 'a', ARGV[6])
  -- Two aged ones go for each that comes: whatever has aged is gone in the end, and no commit waits for it.
  for _, entry in ipairs(redis.call('XRANGE', stream, '-', '+', 'COUNT', 2)) do
    if tonumber(entry[2][6]) >= now - max_age then break end
    redis.call('XDEL', stream, entry[1])
  end
  redis.call('PEXPIRE', stream, string.format('%.0f', math.max(1000, max_age)))
end

local forgotten, names = tonumber(redis.call('HGET', meta, 'forgotten')), {}
local excess = redis.call('ZCARD', used) - max_offsets
if excess > 0 then
  local gone = redis.call('ZPOPMIN', used, math.min(excess, 1000))
  for index = 1, #gone, 2 do
    local channel = gone[index]
    forgotten = math.max(forgotten, tonumber(redis.call('HGET', offsets, channel)))
    redis.call('HDEL', offsets, channel)
    redis.call('DEL', prefix .. 'events:' .. channel)
    names[#names + 1] = channel
  end
  redis.call('HSET', meta, 'forgotten', string.format('%.0f', forgotten))
end
return finish({'done', forgotten, given, names})
"""
"""One commit.

ARGV: prefix, holder, seq, that of the first in its batch, whether it may make Redis larger, now (ms), events
per channel, their age (ms), channels; then preconditions, changes and events, each list after its length.
"""

TAKE: Final = """
local prefix, holder, lease, ttl = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local form, run, keeps, epoch = ARGV[5], ARGV[6], ARGV[7], ARGV[8]
local meta, lease_key = prefix .. 'meta', prefix .. 'lease'
local held = redis.call('GET', lease_key)
if held then return {'held', held, redis.call('PTTL', lease_key)} end
local known = redis.call('HGET', meta, 'form')
if known and known ~= form then return {'form', known} end
if not known then
  redis.call('HSET', meta, 'form', form, 'epoch', epoch, 'run', run, 'forgotten', '0', 'seq', '0')
elseif redis.call('HGET', meta, 'run') ~= run then
  redis.call('HSET', meta, 'run', run)
  if keeps ~= '1' then redis.call('HSET', meta, 'epoch', epoch) end
end
redis.call('HSET', meta, 'holder', holder)
redis.call('SET', lease_key, lease, 'PX', ttl)
return {'taken', redis.call('HMGET', meta, 'epoch', 'seq', 'forgotten')}
"""
"""A hub takes the store, unless another one holds it.

ARGV: prefix, holder, lease and its time (ms), form, the server's run id, whether a server that was restarted
has kept everything, an epoch for a history that is new, or whose end may be lost.
"""

RESUME: Final = """
local prefix, holder, lease, ttl, old = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local epoch, floor, run, fresh = ARGV[6], tonumber(ARGV[7]), ARGV[8], ARGV[9]
local meta = prefix .. 'meta'
local hub = redis.call('HGET', meta, 'holder')
if not hub then return {'lost'} end
if string.sub(hub, 1, #old) ~= old then return {'fenced', redis.call('GET', prefix .. 'lease') or ''} end
local seq = redis.call('HGET', meta, 'seq')
if redis.call('HGET', meta, 'epoch') ~= epoch or tonumber(seq) < floor then
  redis.call('HSET', meta, 'epoch', fresh)
  return {'lost'}
end
redis.call('HSET', meta, 'holder', holder, 'run', run)
redis.call('SET', prefix .. 'lease', lease, 'PX', ttl)
return {'resumed', seq, redis.call('HGETALL', prefix .. 'results')}
"""
"""The same hub is back over a new connection: from here on its old one writes nothing any more.

ARGV: prefix, holder, lease and its time (ms), the hub (what every holder of it begins with), epoch, the
oldest commit that the store has to have, the server's run id, an epoch for a history whose end is lost.
"""

RENEW: Final = """
local prefix, holder, lease, ttl = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local found = redis.call('HGET', prefix .. 'meta', 'holder')
if not found then return {'lost'} end
if found ~= holder then
  return {'fenced', redis.call('GET', prefix .. 'lease') or ''}
end
if redis.call('PEXPIRE', prefix .. 'lease', ttl) == 0 then
  redis.call('SET', prefix .. 'lease', lease, 'PX', ttl)
end
return {'held'}
"""
"""The lease is held on to. ARGV: prefix, holder, lease and its time (ms)."""

RELEASE: Final = """
if redis.call('HGET', ARGV[1] .. 'meta', 'holder') == ARGV[2] then redis.call('DEL', ARGV[1] .. 'lease') end
"""
"""The hub ends. ARGV: prefix, holder."""

LOAD: Final = """
local keys = redis.call('ZRANGEBYLEX', ARGV[1] .. 'index:' .. ARGV[2], ARGV[3], ARGV[4], 'LIMIT', 0, ARGV[5])
if #keys == 0 then return {keys, keys} end
return {keys, redis.call('HMGET', ARGV[1] .. 'table:' .. ARGV[2], unpack(keys))}
"""
"""Some rows of a table, in the order of their keys. ARGV: prefix, table, from, to, how many at most."""

REPLAY: Final = """
local prefix, channel, since, most = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local newest = redis.call('HGET', prefix .. 'offsets', channel)
newest = newest or redis.call('HGET', prefix .. 'meta', 'forgotten')
local wanted = most
if since > 0 then wanted = tonumber(newest) - since end
if wanted <= 0 or wanted > most then return {newest, {}} end
return {newest, redis.call('XREVRANGE', prefix .. 'events:' .. channel, '+', '-', 'COUNT', wanted)}
"""
"""A channel's newest offset, and what came after another one.

ARGV: prefix, channel, since, how many at most.
"""
