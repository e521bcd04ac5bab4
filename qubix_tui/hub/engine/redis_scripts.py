"""What runs inside Redis when a hub writes and reads: each script is one step, whole or not at all.

The keys, all behind one prefix (those of the hubs themselves: `qubix_tui.hub.engine.redis_node_scripts`):

- ``meta``, a hash: ``form``, ``epoch``, ``term`` (whoever knows another one may not write), ``run`` (which
  life of the server was seen last), ``seq`` (the number of the last commit), ``last`` (its mark: whose it
  was, and which of theirs), ``first`` (the oldest commit that is in the log), ``bytes`` (how long the log
  is), ``forgotten`` (the highest offset of a channel that nobody remembers), ``joins``, ``heard``, ``held``.
- ``log``, a stream whose ids are the numbers of commits: each whole, for the hubs to apply.
- ``versions``, a hash: for each row that a commit in the log has written the number of the last one, whose
  it was, and the number of the last one of anybody else.
- ``results:NODE``, a hash: what a hub's last commits came to, by that hub's own numbers, from the one that
  stands under the empty name on. A commit that is sent again does nothing, and gets the same result.
- ``offsets``, a hash, and ``used``, a sorted set: each channel's newest offset, and when it was given.
- ``table:NAME``, a hash, and ``index:NAME``, a sorted set of its keys: what a prefix finds without a scan.
- ``events:CHANNEL``, a stream whose ids are offsets.
"""

from typing import Final

FORM: Final = b"2"
"""Which arrangement of keys these scripts know."""

MOVING: Final = b"moving"
MOVED: Final = b"moved"
"""What stands in place of the form while a store is filled by a move, and once it was moved elsewhere."""

_WRITE: Final = r"""
local function text(number) return string.format('%.0f', number) end

local function parse(body, at)
  local changes, events, count = {}, {}, nil
  count, at = struct.unpack('>I4', body, at)
  for index = 1, count do
    local name, key, flags, value
    name, key, flags, value, at = struct.unpack('>I4c0I4c0BI4c0', body, at)
    changes[index] = {name, key, flags, value, name .. '\0' .. key}
  end
  count, at = struct.unpack('>I4', body, at)
  for index = 1, count do
    local channel, kind, data
    channel, kind, data, at = struct.unpack('>I4c0I4c0I4c0', body, at)
    events[index] = {channel, kind, data}
  end
  return changes, events
end

-- Of what is known of a row: the last commit that wrote it of any other hub than this one.
local function written_by_others(version, node)
  local seq, writer, other = string.match(version, '^(%d+) (%S+) (%d+)$')
  return writer == node and other or seq
end

local function write_rows(prefix, node, seq, changes)
  for _, change in ipairs(changes) do
    local name, key, row = change[1], change[2], change[5]
    if change[3] % 2 == 1 then
      redis.call('HSET', prefix .. 'table:' .. name, key, change[4])
      redis.call('ZADD', prefix .. 'index:' .. name, 0, key)
    else
      redis.call('HDEL', prefix .. 'table:' .. name, key)
      redis.call('ZREM', prefix .. 'index:' .. name, key)
    end
    local version = change[6]
    if version == nil then version = redis.call('HGET', prefix .. 'versions', row) end
    local others = version and written_by_others(version, node) or '0'
    redis.call('HSET', prefix .. 'versions', row, seq .. ' ' .. node .. ' ' .. others)
  end
end

local function write_event(prefix, seq, event, offset, now, max_events, max_age)
  local stream = prefix .. 'events:' .. event[1]
  redis.call('HSET', prefix .. 'offsets', event[1], offset)
  redis.call('ZADD', prefix .. 'used', seq, event[1])
  redis.call(
    'XADD', stream, 'MAXLEN', '~', max_events, offset .. '-0', 't', event[2], 'd', event[3], 'a', now)
  -- Two aged ones go for each that comes: whatever has aged is gone in the end, and no commit waits for it.
  for _, entry in ipairs(redis.call('XRANGE', stream, '-', '+', 'COUNT', 2)) do
    if tonumber(entry[2][6]) >= tonumber(now) - max_age then break end
    redis.call('XDEL', stream, entry[1])
  end
  redis.call('PEXPIRE', stream, text(math.max(1000, max_age)))
end

local function forget(prefix, channel)
  redis.call('HDEL', prefix .. 'offsets', channel)
  redis.call('ZREM', prefix .. 'used', channel)
  redis.call('DEL', prefix .. 'events:' .. channel)
end

-- A row that no commit in the log has written is known to all.
local function drop_versions(prefix, seq, entry)
  local _, at = struct.unpack('>I4c0', entry, 1)
  for _, change in ipairs(parse(entry, at)) do
    local version = redis.call('HGET', prefix .. 'versions', change[5])
    if version and string.match(version, '^%d+') == seq then
      redis.call('HDEL', prefix .. 'versions', change[5])
    end
  end
end

local function add_to_log(prefix, seq, mark, first, bytes, entry, keep, room)
  local log = prefix .. 'log'
  redis.call('XADD', log, text(seq) .. '-0', 'd', entry)
  bytes = bytes + #entry
  if seq - first >= keep or bytes > room then
    -- Some more than there have to: the next commits then need not look.
    keep, room = keep - math.min(100, keep / 2), room - room / 64
    local gone = 0
    while gone < 200 and first < seq and (seq - first >= keep or bytes > room) do
      local oldest = redis.call('XRANGE', log, '-', '+', 'COUNT', 1)[1]
      local number = string.match(oldest[1], '^%d+')
      bytes, first, gone = bytes - #oldest[2][2], tonumber(number) + 1, gone + 1
      drop_versions(prefix, number, oldest[2][2])
      redis.call('XDEL', log, oldest[1])
    end
  end
  redis.call(
    'HSET', prefix .. 'meta', 'seq', text(seq), 'last', mark, 'first', text(first), 'bytes', text(bytes))
end
"""

COMMIT: Final = (
    _WRITE
    + r"""
local prefix, term, node, number, floor, grows = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local applied, now = tonumber(ARGV[7]), ARGV[8]
local max_events, max_age, keep, room = ARGV[9], tonumber(ARGV[10]), tonumber(ARGV[11]), tonumber(ARGV[12])
local max_offsets, conditions, body = tonumber(ARGV[13]), ARGV[14], ARGV[15]
local meta, results = prefix .. 'meta', prefix .. 'results:' .. node

local found = redis.call('HMGET', meta, 'term', 'seq', 'last', 'first', 'bytes', 'forgotten')
if found[1] ~= term then return 'lost' end
local seq, first, forgotten = tonumber(found[2]), tonumber(found[4]), tonumber(found[6])
local mine = redis.call('HMGET', results, '', number)
if not mine[1] then return 'unknown' end
if mine[2] then return mine[2] end
if tonumber(number) < tonumber(mine[1]) then return 'stale' end

-- The first write decides whether a full Redis refuses all of it; after that nothing is refused.
local function finish(result)
  if grows ~= '1' then redis.call('HDEL', results, number) end
  redis.call('HSET', results, number, result)
  if floor ~= mine[1] then redis.call('HSET', results, '', floor) end
  for old = tonumber(mine[1]), tonumber(floor) - 1 do redis.call('HDEL', results, text(old)) end
  return result
end

local count, at = struct.unpack('>I4', conditions, 1)
for index = 1, count do
  local name, key, flags, value
  name, key, flags, value, at = struct.unpack('>I4c0I4c0BI4c0', conditions, at)
  if redis.call('HGET', prefix .. 'table:' .. name, key) ~= (flags == 1 and value) then
    return finish('condition ' .. index .. ' ' .. found[2])
  end
end
local changes, events = parse(body, 1)
for index, change in ipairs(changes) do
  -- What was written before the log begins is not known any more: decided so long ago, it is decided again.
  if change[3] < 2 and applied + 1 < first then return finish('row ' .. index .. ' ' .. found[2]) end
  change[6] = redis.call('HGET', prefix .. 'versions', change[5])
  local others = change[6] and change[3] < 2 and written_by_others(change[6], node) or '0'
  if tonumber(others) > applied then return finish('row ' .. index .. ' ' .. others) end
end
seq = seq + 1
finish('done ' .. text(seq))

write_rows(prefix, node, text(seq), changes)
local time = redis.call('TIME')
local mark = node .. '/' .. number
local head = {found[3], mark, time[1] * 1000 + math.floor(time[2] / 1000), tonumber(now), 0, #events}
for _, event in ipairs(events) do
  local offset = redis.call('HGET', prefix .. 'offsets', event[1])
  offset = (offset and tonumber(offset) or forgotten) + 1
  head[#head + 1] = offset
  write_event(prefix, text(seq), event, text(offset), now, max_events, max_age)
end
local excess = redis.call('ZCARD', prefix .. 'used') - max_offsets
if excess > 0 then
  for _, channel in ipairs(redis.call('ZRANGE', prefix .. 'used', 0, math.min(excess, 1000) - 1)) do
    forgotten = math.max(forgotten, tonumber(redis.call('HGET', prefix .. 'offsets', channel)))
    forget(prefix, channel)
    head[#head + 1] = channel
  end
  redis.call('HSET', meta, 'forgotten', text(forgotten))
end
head[5] = forgotten
head = cmsgpack.pack(head)
local entry = struct.pack('>I4', #head) .. head .. body
add_to_log(prefix, seq, mark, first, tonumber(found[5]), entry, keep, room)
return 'done ' .. text(seq)
"""
)
"""One commit.

ARGV: prefix, term, hub, that hub's number of it, the oldest number whose result the hub may still ask for,
whether it may make Redis larger, the commit that the hub had applied when it decided, now (ms), events per
channel, their age (ms), commits in the log, their bytes, channels; then the preconditions, and what goes into
the log (`qubix_tui.hub.engine.redis_log`).

Gives one of: ``done SEQ``; ``condition INDEX SEQ`` or ``row INDEX SEQ`` for what did not hold, and the commit
that has to be applied before it is decided again; ``lost`` or ``unknown``, for a hub that has to start anew;
``stale``, over an old connection.
"""

RESTORE: Final = (
    _WRITE
    + r"""
local prefix, term, seq, entry = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local max_events, max_age, keep, room = ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local hold = tonumber(ARGV[9])
local meta = prefix .. 'meta'
local found = redis.call('HMGET', meta, 'term', 'seq', 'last', 'first', 'bytes')
if found[1] ~= term then return 'lost' end
local packed, at = struct.unpack('>I4c0', entry, 1)
local head = cmsgpack.unpack(packed)
local last = tonumber(found[2])
if last >= seq then
  local there = redis.call('XRANGE', prefix .. 'log', ARGV[3], ARGV[3])[1]
  return (not there or there[2][2] == entry) and 'there' or 'other'
end
if last + 1 ~= seq or found[3] ~= head[1] then return 'other' end

-- What was acknowledged once is not refused now, however full it is.
redis.call('HDEL', prefix .. 'versions', '')
local node, number = string.match(head[2], '^(.*)/(%d+)$')
local results = prefix .. 'results:' .. node
local floor = redis.call('HGET', results, '')
if floor and tonumber(number) >= tonumber(floor) then
  redis.call('HSET', results, number, 'done ' .. text(seq))
end
local changes, events = parse(entry, at)
write_rows(prefix, node, text(seq), changes)
for index, event in ipairs(events) do
  write_event(prefix, text(seq), event, text(head[6 + index]), text(head[4]), max_events, max_age)
end
for index = 7 + #events, #head do forget(prefix, head[index]) end
redis.call('HSET', meta, 'forgotten', text(head[5]))
add_to_log(prefix, seq, head[2], tonumber(found[4]), tonumber(found[5]), entry, keep, room)
local time = redis.call('TIME')
local until_then = time[1] * 1000 + math.floor(time[2] / 1000) + hold
if until_then > tonumber(redis.call('HGET', meta, 'held') or 0) and hold > 0 then
  redis.call('HSET', meta, 'held', text(until_then))
end
return 'restored'
"""
)
"""A commit that Redis had lost is written once more, as it was.

ARGV: prefix, term, its number, the entry of the log, events per channel, their age (ms), commits in the log,
their bytes, how long (ms) ordinary commits are to wait for more of these.

Gives ``restored``, ``there`` where it is (or was, in a log that has moved on), ``other`` where something else
has its number, or ``lost``.
"""

LOAD: Final = """
local keys = redis.call('ZRANGEBYLEX', ARGV[1] .. 'index:' .. ARGV[2], ARGV[3], ARGV[4], 'LIMIT', 0, ARGV[5])
if #keys == 0 then return {keys, keys} end
return {keys, redis.call('HMGET', ARGV[1] .. 'table:' .. ARGV[2], unpack(keys))}
"""
"""Some rows of a table, in the order of their keys. ARGV: prefix, table, from, to, how many at most."""

REPLAY: Final = """
local prefix, channel, since, most = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local seq, forgotten = unpack(redis.call('HMGET', prefix .. 'meta', 'seq', 'forgotten'))
local newest = redis.call('HGET', prefix .. 'offsets', channel) or forgotten
local wanted = most
if since > 0 then wanted = tonumber(newest) - since end
if wanted <= 0 or wanted > most then return {seq, newest, {}} end
return {seq, newest, redis.call('XREVRANGE', prefix .. 'events:' .. channel, '+', '-', 'COUNT', wanted)}
"""
"""The last commit, a channel's newest offset at that time, and what came after another one.

ARGV: prefix, channel, since, how many at most.
"""
