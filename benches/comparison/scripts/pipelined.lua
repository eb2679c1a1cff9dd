-- DEPTH requests are written at once, before their answers are read.
local requests

function init(args)
    requests = string.rep(wrk.format(), DEPTH)
end

function request()
    return requests
end
