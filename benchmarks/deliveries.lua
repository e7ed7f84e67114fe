-- For wrk: posts the presigned deliveries of the file that it is given, each once: id, timestamp, signature and body,
-- separated by tabs. Prints, last, one line: answers, microseconds, 50th and 99th percentile in microseconds, not 202.
local threads, deliveries, at = {}, {}, 0
failed, stored = 0, 0

function setup(thread)
  table.insert(threads, thread)
end

function init(arguments)
  for line in io.lines(arguments[1]) do
    table.insert(deliveries, line)
  end
end

function request()
  at = at + 1
  if at > #deliveries then
    error("every delivery was posted; make more")
  end
  local id, moment, signature, body = deliveries[at]:match("([^\t]*)\t([^\t]*)\t([^\t]*)\t(.*)")
  return wrk.format("POST", nil, {
    ["content-type"] = "application/json", ["webhook-id"] = id, ["webhook-timestamp"] = moment,
    ["webhook-signature"] = signature,
  }, body)
end

function response(status)
  if status == 202 then
    stored = stored + 1
  else
    failed = failed + 1
  end
end

function done(summary, latency)
  local kept, faults = 0, summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
  for _, thread in ipairs(threads) do
    kept = kept + thread:get("stored")
    faults = faults + thread:get("failed")
  end
  print(string.format("%d %d %d %d %d", kept, summary.duration, latency:percentile(50), latency:percentile(99), faults))
end
