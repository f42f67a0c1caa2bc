-- Remembers that a provider's breaker has opened, and tells all who listen.
--
-- KEYS[1]  a sorted set: who says it of what, scored by the instant it is over
-- ARGV[1]  the member
-- ARGV[2]  for how many milliseconds
-- ARGV[3]  how many members are kept, those that last longest
-- ARGV[4]  the channel
-- ARGV[5]  the message
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now))
redis.call('ZADD', KEYS[1], string.format('%.0f', now + ARGV[2]), ARGV[1])
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - ARGV[3])
local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')
redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', tonumber(last[2])))
return redis.call('PUBLISH', ARGV[4], ARGV[5])
