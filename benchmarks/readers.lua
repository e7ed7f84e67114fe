-- For wrk: asks at random for one of the paths in the file that it is given, and counts answers from the cache.
-- Prints, last, one line: requests, microseconds, 50th and 99th percentile in microseconds, from the cache, not 200.
local paths, threads = {}, {}
kept, failed = 0, 0

function setup(thread)
  table.insert(threads, thread)
end

function init(arguments)
  math.randomseed(tonumber(arguments[2]))
  for path in io.lines(arguments[1]) do
    table.insert(paths, path)
  end
end

function request()
  return wrk.format("GET", paths[math.random(#paths)])
end

function response(status, headers)
  if status ~= 200 then
    failed = failed + 1
  elseif headers["cache-status"] == "etl-river; hit" then
    kept = kept + 1
  end
end

function done(summary, latency)
  local hits, faults = 0, summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
  for _, thread in ipairs(threads) do
    hits = hits + thread:get("kept")
    faults = faults + thread:get("failed")
  end
  print(string.format("%d %d %d %d %d %d", summary.requests, summary.duration, latency:percentile(50),
    latency:percentile(99), hits, faults))
end
