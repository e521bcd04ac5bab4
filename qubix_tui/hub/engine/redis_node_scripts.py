"""What runs inside Redis for the hubs themselves: who is there, by Redis's own clock.

The keys, behind the prefix:

- ``nodes``, a sorted set: until when (ms) each hub counts as alive. Who is gone stays for a minute.
- ``nodes:joined``, a sorted set: in which order they came.
- ``nodes:words`` and ``nodes:who``, hashes: what each tells of itself; which process it is, for people.
- ``nodes:run``, a hash: the life of the server that each has given back to what the one before had lost.
- ``lease``: the move that has the store; it runs out.
- in ``meta``: ``joins`` (how many hubs there were), ``heard`` (when one of them was heard last, ms), ``held``
  (until when commits wait for what Redis has lost, ms).
- ``to:NODE``, a channel: what other hubs send to one.
"""

from typing import Final

_NODES: Final = r"""
local function text(number) return string.format('%.0f', number) end

local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Whether there are others that have not given back yet what they have.
local function awaits(prefix, node, run)
  local heard = redis.call('HGET', prefix .. 'meta', 'heard') or '0'
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', prefix .. 'nodes', '(' .. heard, '+inf')) do
    if id ~= node and redis.call('HGET', prefix .. 'nodes:run', id) ~= run then return true end
  end
  return false
end

local function wait(prefix, node, run, now)
  local left = tonumber(redis.call('HGET', prefix .. 'meta', 'held') or 0) - now
  return left > 0 and awaits(prefix, node, run) and left or 0
end

-- While nobody could be heard no lease ran.
local function hear(prefix, now)
  local gap = now - tonumber(redis.call('HGET', prefix .. 'meta', 'heard') or now)
  if gap > 2000 or gap < 0 then
    local more = gap > 0 and gap - 1000 or gap
    for _, id in ipairs(redis.call('ZRANGE', prefix .. 'nodes', 0, -1)) do
      redis.call('ZINCRBY', prefix .. 'nodes', text(more), id)
    end
  end
  redis.call('HSET', prefix .. 'meta', 'heard', text(now))
end

local function remove(prefix, id)
  redis.call('ZREM', prefix .. 'nodes', id)
  redis.call('ZREM', prefix .. 'nodes:joined', id)
  redis.call('HDEL', prefix .. 'nodes:words', id)
  redis.call('HDEL', prefix .. 'nodes:who', id)
  redis.call('HDEL', prefix .. 'nodes:run', id)
end

local function enrol(prefix, node, who, words, now, lease)
  redis.call('ZADD', prefix .. 'nodes', text(now + lease), node)
  if not redis.call('ZSCORE', prefix .. 'nodes:joined', node) then
    redis.call('ZADD', prefix .. 'nodes:joined', redis.call('HINCRBY', prefix .. 'meta', 'joins', 1), node)
    redis.call('HSET', prefix .. 'nodes:who', node, who)
  end
  redis.call('HSET', prefix .. 'nodes:words', node, words)
end

local function alive(prefix, now, lease)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', prefix .. 'nodes', '-inf', text(now - 60000))) do
    remove(prefix, id)
  end
  local found = {}
  for _, id in ipairs(redis.call('ZRANGE', prefix .. 'nodes:joined', 0, -1)) do
    local left = tonumber(redis.call('ZSCORE', prefix .. 'nodes', id) or '0') - now
    if left > 0 then
      found[#found + 1] = {id, math.max(0, lease - left), redis.call('HGET', prefix .. 'nodes:words', id)}
    end
  end
  return found
end

local function remember(prefix, node, floor, ttl)
  redis.call('HSET', prefix .. 'results:' .. node, '', floor)
  redis.call('PEXPIRE', prefix .. 'results:' .. node, ttl)
end
"""

JOIN: Final = (
    _NODES
    + r"""
local prefix, node, who, words, lease = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local ttl, floor, form, run, keeps = ARGV[6], ARGV[7], ARGV[8], ARGV[9], ARGV[10]
local fresh, patient = ARGV[11], ARGV[12]
local meta = prefix .. 'meta'
local held = redis.call('GET', prefix .. 'lease')
if held then return {'held', held, redis.call('PTTL', prefix .. 'lease')} end
local known = redis.call('HGET', meta, 'form')
if known and known ~= form then return {'form', known} end
local now = clock()
if not known then
  redis.call(
    'HSET', meta, 'form', form, 'epoch', fresh, 'term', fresh, 'run', run, 'forgotten', '0',
    'seq', '0', 'last', '', 'first', '1', 'bytes', '0')
elseif redis.call('HGET', meta, 'run') ~= run then
  if keeps ~= '1' then
    if patient == '1' and awaits(prefix, node, run) then return {'wait'} end
    redis.call('HSET', meta, 'epoch', fresh, 'term', fresh)
  end
  redis.call('HSET', meta, 'run', run)
end
redis.call('HSET', meta, 'heard', text(now))
enrol(prefix, node, who, words, now, lease)
redis.call('HSET', prefix .. 'nodes:run', node, run)
remember(prefix, node, floor, ttl)
local found = redis.call('HMGET', meta, 'epoch', 'term', 'seq', 'last', 'forgotten')
return {'joined', found, now, wait(prefix, node, run, now)}
"""
)
"""A hub begins.

ARGV: prefix, hub, which process that is, what it tells, its lease (ms), how long its results are kept (ms),
the number of its first commit, form, the server's run id, whether a server that was restarted has kept
everything, a name for a history that is new, or whose end may be lost; whether it waits for hubs that may
have that end.

Gives ``joined`` with what it has to know, the time (ms), and how long (ms) no commit may be sent; ``held``
by a move; ``form``, for a store that these scripts don't know; ``wait``.
"""

RESUME: Final = (
    _NODES
    + r"""
local prefix, node, who, words, lease = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local ttl, floor, term, run, keeps = ARGV[6], ARGV[7], ARGV[8], ARGV[9], ARGV[10]
local told, fresh, hold = tonumber(ARGV[11]), ARGV[12], tonumber(ARGV[13])
local applied, mark, oldest, patient, stays = ARGV[14], ARGV[15], tonumber(ARGV[16]), ARGV[17], ARGV[18]
local meta = prefix .. 'meta'
local found = redis.call('HMGET', meta, 'term', 'seq', 'last', 'run')
if found[1] ~= term then return {'lost'} end
local seq = tonumber(found[2])
if seq < oldest and patient == '1' and awaits(prefix, node, run) then return {'wait'} end
if seq < oldest or (found[2] == applied and found[3] ~= mark) then
  redis.call('HSET', meta, 'epoch', fresh, 'term', fresh)
  return {'lost'}
end
local now = clock()
if found[4] ~= run then
  redis.call('HSET', meta, 'run', run)
  if keeps ~= '1' then redis.call('HSET', meta, 'held', text(now + hold)) end
end
if redis.call('EXISTS', prefix .. 'results:' .. node) == 0 then
  -- It joined in what Redis has lost; else it was away for longer than its results are kept.
  if now - told >= tonumber(ttl) then return {'unknown'} end
  remember(prefix, node, floor, ttl)
end
hear(prefix, now)
if stays == '1' then
  enrol(prefix, node, who, words, now, lease)
  if tonumber(applied) <= seq then redis.call('HSET', prefix .. 'nodes:run', node, run) end
end
return {'resumed', seq, wait(prefix, node, run, now)}
"""
)
"""A hub is back over a new connection.

ARGV: those of `JOIN` as far as the number of the hub's oldest commit without a result; term, the server's run
id, whether a server that was restarted has kept everything; when Redis last heard the hub (ms); a name for a
history whose end is lost; how long (ms) commits then wait at most for what other hubs have; the commit that
the hub has applied last, and its mark; the oldest that Redis must have; whether the hub waits for others,
which may have what comes before that; whether it stays.

Gives ``resumed`` with the last commit that Redis has, and how long (ms) no commit may be sent; ``wait``;
``lost`` or ``unknown`` for a hub that has to start anew.
"""

RENEW: Final = (
    _NODES
    + r"""
local prefix, node, who, words, lease = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local ttl, term, stays = ARGV[6], ARGV[7], ARGV[8]
if redis.call('HGET', prefix .. 'meta', 'term') ~= term then return {'lost'} end
-- A full Redis, which refuses a script that begins by growing, has to know who is alive.
redis.call('HDEL', prefix .. 'nodes:words', '')
local now = clock()
hear(prefix, now)
if stays == '1' then
  enrol(prefix, node, who, words, now, lease)
  redis.call('PEXPIRE', prefix .. 'results:' .. node, ttl)
end
local seq = redis.call('HGET', prefix .. 'meta', 'seq')
return {'renewed', now, tonumber(seq), alive(prefix, now, lease)}
"""
)
"""A hub is alive.

ARGV: prefix, hub, which process that is, what it tells, its lease (ms), how long its results are kept (ms),
term, whether it stays.

Gives ``renewed``, the time (ms), the number of the last commit and the hubs that are alive, the oldest first:
of each its id, how long it was not heard (ms), and what it tells; ``lost`` for a hub that has to start anew.
"""

LEAVE: Final = _NODES + "remove(ARGV[1], ARGV[2])"
"""A hub is about to end. ARGV: prefix, hub."""

BREAK: Final = """
if redis.call('HGET', ARGV[1] .. 'meta', 'term') == ARGV[2] then
  redis.call('HSET', ARGV[1] .. 'meta', 'epoch', ARGV[3], 'term', ARGV[3])
end
"""
"""History has parted: every hub has to start anew. ARGV: prefix, term, the name of the history from here."""

HOLD: Final = (
    _NODES
    + r"""
local prefix, who, ttl, fresh = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local now = clock()
local living = redis.call('ZRANGE', prefix .. 'nodes', '(' .. text(now), '+inf', 'BYSCORE', 'WITHSCORES')
if #living > 0 then
  local one = redis.call('HGET', prefix .. 'nodes:who', living[1])
  return {'alive', one or '', tonumber(living[#living]) - now}
end
local lease = prefix .. 'lease'
if not redis.call('SET', lease, who, 'NX', 'PX', ttl) then
  return {'held', redis.call('GET', lease), redis.call('PTTL', lease)}
end
if redis.call('EXISTS', prefix .. 'meta') == 1 then redis.call('HSET', prefix .. 'meta', 'term', fresh) end
return {'taken'}
"""
)
"""A move takes the store; a hub that was frozen meanwhile writes nothing any more.

ARGV: prefix, who moves it, for how long (ms), a term that no hub knows.

Gives ``taken``; ``alive`` or ``held``, with who has it and how long that lasts (ms) unless it is renewed.
"""
