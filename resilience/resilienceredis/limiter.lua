-- GCRA, the generic cell rate algorithm, in its form as a leaky bucket (ITU-T I.371):
-- of a limit is kept how far it is used, and since when. Time empties it.
--
-- KEYS[1]  the limit
-- ARGV[1]  microseconds between two calls at the given rate
-- ARGV[2]  how many calls may come at once
-- ARGV[3]  how many calls this one costs
-- ARGV[4]  1 where that is a correction, which may be negative and is never refused
-- returns  0 where the call is granted, or after how many microseconds to ask again
--
-- All is in microseconds. The interval is a multiple of 1/64, and a limit is used for
-- two years at most, so that a double holds every sum here exactly.
local interval, cost = tonumber(ARGV[1]), tonumber(ARGV[3]) * tonumber(ARGV[1])
local size = tonumber(ARGV[2]) * interval
local limit = ARGV[1] .. ' ' .. ARGV[2]
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local used, at, kept = string.match(redis.call('GET', KEYS[1]) or '', '^(%S+) (%S+) (.+)$')
used, at = tonumber(used or '') or 0, tonumber(at or '') or now
-- What is used beyond size is a debt. It is bounded, since a mistake would else
-- close the limit for good, and not taken over from a limit of another rate or burst.
local most = size + math.max(size, 3600000000)
if kept ~= limit then
	used = math.min(used, size)
end
used = math.max(math.min(used, most) - math.max(now - at, 0), 0)

local function keep()
	if used <= 0 then
		redis.call('DEL', KEYS[1])
	else
		redis.call('SET', KEYS[1], string.format('%.6f %.0f %s', used, now, limit), 'PX', math.ceil(used / 1000))
	end
end

local wait = used + cost - size
if ARGV[4] == '1' then
	used = math.min(used + cost, most)
elseif wait > 0 then
	if at > now then -- the server's clock was put back: what is used passes from now on
		keep()
	end
	return math.ceil(wait)
else
	used = used + cost
end
keep()
return 0
