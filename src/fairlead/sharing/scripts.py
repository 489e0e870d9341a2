"""What runs in Redis: at once, by its own clock, and in one round trip."""

from __future__ import annotations

from hashlib import sha1
from typing import Final


class Script:
    """Lua that runs in Redis at once, and knows its clock."""

    __slots__ = ("sha", "text")

    def __init__(self, text: str) -> None:
        self.text: Final = text.encode()
        self.sha: Final = sha1(self.text, usedforsecurity=False).hexdigest().encode()


RESERVE: Final = Script("""
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval, burst, patience = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local owed = tonumber(ARGV[4] or '0')
local due = math.max(now, tonumber(redis.call('GET', KEYS[1]) or now)) + owed * interval
local wait = math.max(0, due - (burst - 1) * interval - now)
local reserved = wait <= patience and 1 or 0
if reserved + owed > 0 then
  due = due + reserved * interval
  redis.call('SET', KEYS[1], string.format('%.2f', due), 'PX', string.format('%.0f', math.ceil((due - now) / 1000) + 1000))
end
return {reserved, math.ceil(wait)}
""")
"""The generic cell rate algorithm, with turns that are reserved: microseconds, of which a double holds quarters until the year 2255.

What is owed are turns that a process gave itself while there was no store, and has not used yet: they are taken off first.
The key says until when all is given away. It lives a second longer than that, and by then says the same as no key.
"""

EXCHANGE: Final = Script("""
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local members, state, order, circuits = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local me, stay, keep, kept, born, since = ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4]), ARGV[5], tonumber(ARGV[6])
local function whole(number) return string.format('%.0f', number) end

redis.call('ZREMRANGEBYSCORE', members, '-inf', whole(now))
redis.call('ZADD', members, whole(now + stay), me)
redis.call('PEXPIRE', members, keep)
redis.call('HSETNX', state, 'born', whole(now))
local known = redis.call('HGET', state, 'born')
if known ~= born then since = 0 end

local at, totals = 8, {}
for _ = 1, tonumber(ARGV[7]) do
  totals[#totals + 1] = redis.call('HINCRBY', state, 'calls ' .. ARGV[at], ARGV[at + 1])
  totals[#totals + 1] = redis.call('HINCRBY', state, 'spent ' .. ARGV[at], ARGV[at + 2])
  at = at + 3
end
while ARGV[at] do
  local circuit, open = ARGV[at], tonumber(ARGV[at + 1])
  local number = redis.call('HINCRBY', state, 'changes', 1)
  local ends = '0'
  if open > 0 then ends = whole(now + open) end
  redis.call('ZADD', order, number, circuit)
  redis.call('HSET', circuits, circuit, ends .. ' ' .. me .. ' ' .. ARGV[at + 2])
  for _, key in ipairs({order, circuits}) do
    redis.call('PEXPIRE', key, whole(math.max(redis.call('PTTL', key), tonumber(keep) + math.ceil(open / 1000))))
  end
  at = at + 3
end
local many = redis.call('ZCARD', order) - kept
if many > 0 then
  for _, circuit in ipairs(redis.call('ZRANGE', order, 0, many - 1)) do
    redis.call('ZREM', order, circuit)
    redis.call('HDEL', circuits, circuit)
  end
end
redis.call('PEXPIRE', state, keep)

local changes = {}
for _, circuit in ipairs(redis.call('ZRANGEBYSCORE', order, '(' .. whole(since), '+inf')) do
  local ends, who, reason = string.match(redis.call('HGET', circuits, circuit) or '', '^(%d+) (%S+) (.*)$')
  local open = tonumber(ends or 0) - now
  if ends and who ~= me and (ends == '0' or open > 0) then
    changes[#changes + 1] = {circuit, math.max(0, open), reason}
  end
end
return {redis.call('ZCARD', members), known, tonumber(redis.call('HGET', state, 'changes') or 0), totals, changes}
""")
"""Who is there, what each counted, and which circuits opened or closed since one last asked.

Changes are numbered; of a circuit the last is kept, of circuits a bounded number, and nothing outlives its use: every key expires. `born`
tells a state that was lost and began anew. An opening is told as the seconds that are left of it, so that clocks may differ.
"""
