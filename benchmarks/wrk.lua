-- What wrk asks, and one line of JSON with what it saw. Arguments: API, operation, keys, bytes of a value.
-- All requests are made before the load begins; each connection draws from them.

local most_requests, most_bytes = 10000, 64 * 1024 * 1024
local prepared = {}

local digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

local function base64(text)
  local parts = {}
  for at = 1, #text, 3 do
    local a, b, c = text:byte(at, at + 2)
    local bits = a * 65536 + (b or 0) * 256 + (c or 0)
    local part = ""
    for shift = 3, 0, -1 do
      local digit = math.floor(bits / 64 ^ shift) % 64 + 1
      part = part .. digits:sub(digit, digit)
    end
    parts[#parts + 1] = b and (c and part or part:sub(1, 3) .. "=") or part:sub(1, 2) .. "=="
  end
  return table.concat(parts)
end

local function request_of(api, operation, key, value, value64)
  if api == "etcd" then
    local body = '{"key":"' .. base64("/bench/" .. key) .. '"'
    if operation == "put" then
      return wrk.format("POST", "/v3/kv/put", nil, body .. ',"value":"' .. value64 .. '"}')
    end
    return wrk.format("POST", "/v3/kv/range", nil, body .. "}")
  end
  if operation == "put" then
    return wrk.format("PUT", "/bench/" .. key, nil, value)
  end
  return wrk.format("GET", "/bench/" .. key)
end

function init(arguments)
  local api, operation, keys, bytes = arguments[1], arguments[2], tonumber(arguments[3]), tonumber(arguments[4])
  local value = {}
  math.randomseed(1)
  for at = 1, bytes do
    value[at] = string.char(math.random(0, 255))
  end
  value = table.concat(value)
  local value64 = api == "etcd" and base64(value) or ""
  local count = math.max(1, math.min(keys, most_requests, math.floor(most_bytes / (bytes + 100))))
  for number = 1, count do
    local key = keys > count and math.random(0, keys - 1) or number - 1
    prepared[number] = request_of(api, operation, string.format("%d", key), value, value64)
  end
end

function request()
  return prepared[math.random(#prepared)]
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '{"requests":%d,"duration_us":%d,"p50_us":%.1f,"p99_us":%.1f,"max_us":%.1f,"errors":'
      .. '{"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d}}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), latency.max,
    errors.connect, errors.read, errors.write, errors.status, errors.timeout
  ))
end
