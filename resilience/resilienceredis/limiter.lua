-- GCRA, the generic cell rate algorithm (ITU-T I.371): of a limit nothing is kept
-- but the instant at which it will be unused again, "full".
--
-- KEYS[1]  the limit
-- ARGV[1]  microseconds between two calls at the given rate
-- ARGV[2]  how many calls may come at once
-- returns  0 where the call is granted, or after how many microseconds to ask again
--
-- Instants are microseconds since 2024, so that a double holds them to 1/64: the
-- interval is a multiple of that, and every sum here is exact.
local interval, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = (time[1] - 1704067200) * 1000000 + time[2]
local full = tonumber(redis.call('GET', KEYS[1]) or '') or now
-- It can't be further ahead than this, unless the server's clock was put back or
-- the limit was made smaller.
full = math.max(math.min(full, now + burst * interval), now)
local wait = full - now - (burst - 1) * interval
if wait > 0 then
	return math.ceil(wait)
end
full = full + interval
redis.call('SET', KEYS[1], string.format('%.6f', full), 'PX', math.ceil((full - now) / 1000))
return 0
