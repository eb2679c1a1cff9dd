-- Writes DEPTH requests at once, before reading the responses.
local requests

function init(args)
    requests = string.rep(wrk.format(), DEPTH)
end

function request()
    return requests
end
