-- `gateway.minute` in Redis: what was counted under a name in the last sixty seconds.
--
-- Of each name a hash: `sum`; `first`, the oldest second that may hold something; `newest`, when
-- something was counted last; and of each second its number with what was counted in it, and `l`
-- before that number with the moment of the last of it. All times in milliseconds.
--
-- ARGV: a time that stands in for Redis' own, or nothing; then either how many names are to be
-- counted together and of each the place of its key, the amount and the limit, or 0, a key's place,
-- a second and by how much to change what was counted in it.
-- Answers each with the second in which it was counted, 0 for none, and of each name what is used,
-- and for how long the amount does not fit and not all is there again.

local MINUTE, SECOND = 60000, 1000
local clock = redis.call('TIME')
local now = tonumber(ARGV[1]) or clock[1] * 1000 + math.floor(clock[2] / 1000)

local function look(name)
    local found = redis.call('HMGET', name, 'sum', 'first', 'newest')
    local newest = tonumber(found[3])
    if not newest or math.abs(now - newest) >= MINUTE then
        redis.call('DEL', name)
        return {name = name, now = now, sum = 0, first = math.floor(now / SECOND), newest = 0}
    end
    local seen = {name = name, now = math.max(now, newest), newest = newest}
    seen.sum, seen.first = tonumber(found[1]), tonumber(found[2])
    local before = seen.first
    while seen.first * SECOND + MINUTE <= seen.now do
        local second = redis.call('HMGET', name, seen.first, 'l' .. seen.first)
        if second[1] then
            if tonumber(second[2]) + MINUTE > seen.now then break end
            seen.sum = seen.sum - second[1]
            redis.call('HDEL', name, seen.first, 'l' .. seen.first)
        end
        seen.first = seen.first + 1
    end
    if seen.first ~= before then
        redis.call('HSET', name, 'sum', seen.sum, 'first', seen.first)
    end
    return seen
end

local function wait(seen, amount, limit)
    local needed, found = seen.sum + amount - limit, 0
    if needed <= 0 then return 0 end
    local names = {}
    for second = seen.first, math.floor(seen.now / SECOND) do
        names[#names + 1] = second
        names[#names + 1] = 'l' .. second
    end
    local held = redis.call('HMGET', seen.name, unpack(names))
    for place = 1, #held, 2 do
        if held[place] then
            needed = needed - held[place]
            found = held[place + 1] + MINUTE - seen.now
            if needed <= 0 then break end
        end
    end
    return found
end

local function add(seen, amount)
    local second = math.floor(seen.now / SECOND)
    local counted = redis.call('HGET', seen.name, second) or 0
    seen.sum, seen.newest = seen.sum + amount, seen.now
    redis.call('HSET', seen.name, 'sum', seen.sum, 'first', seen.first, 'newest', seen.now,
        second, counted + amount, 'l' .. second, seen.now)
    redis.call('PEXPIRE', seen.name, MINUTE)
end

local function take(place, parts, answer)
    local all, fits = {}, true
    for part = 1, parts do
        local seen = look(KEYS[tonumber(ARGV[place])])
        seen.amount = tonumber(ARGV[place + 1])
        seen.wait = wait(seen, seen.amount, tonumber(ARGV[place + 2]))
        fits = fits and seen.wait == 0
        all[part], place = seen, place + 3
    end
    for _, seen in ipairs(all) do
        if fits then add(seen, seen.amount) end
        answer[#answer + 1] = seen.sum
        answer[#answer + 1] = seen.wait
        answer[#answer + 1] = math.max(0, seen.newest + MINUTE - seen.now)
    end
    answer[1] = fits and math.floor(all[1].now / SECOND) or 0
    return place
end

local function change(name, second, amount)
    local found = redis.call('HMGET', name, 'sum', second)
    if not found[2] then return end
    local changed = math.max(0, found[2] + amount)
    redis.call('HSET', name, 'sum', found[1] + changed - found[2], second, changed)
end

local answers, place = {}, 2
while ARGV[place] do
    local parts, answer = tonumber(ARGV[place]), {0}
    if parts > 0 then
        place = take(place + 1, parts, answer)
    else
        change(KEYS[tonumber(ARGV[place + 1])], ARGV[place + 2], tonumber(ARGV[place + 3]))
        place = place + 4
    end
    answers[#answers + 1] = answer
end
return answers
