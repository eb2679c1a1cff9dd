-- FILES files; the file of rank r is requested 1/r as often as the first one. The sequence is computed
-- at the start and is always the same, so that every server does equal work and wrk does little.
local sequence = {}
local length = 65536
local position = 0

function init(args)
    math.randomseed(1)
    local sums, sum = {}, 0
    for rank = 1, FILES do
        sum = sum + 1 / rank
        sums[rank] = sum
    end
    local requests = {}
    for index = 1, length do
        local draw = math.random() * sum
        local low, high = 1, FILES
        while low < high do
            local middle = math.floor((low + high) / 2)
            if sums[middle] < draw then
                low = middle + 1
            else
                high = middle
            end
        end
        requests[low] = requests[low] or wrk.format("GET", "/many/" .. (low - 1) .. ".png")
        sequence[index] = requests[low]
    end
end

function request()
    position = position % length + 1
    return sequence[position]
end
