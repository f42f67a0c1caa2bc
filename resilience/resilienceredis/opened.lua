-- What is open now.
--
-- KEYS[1]  as open.lua keeps it
-- ARGV[1]  how many at most
-- returns  a member, for how many more milliseconds, the next member …
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local all = redis.call('ZRANGEBYSCORE', KEYS[1], string.format('(%.0f', now), '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[1])
for i = 2, #all, 2 do
	all[i] = string.format('%.0f', all[i] - now)
end
return all
