-- Requests as browsers send them: each with a target and with cookies of its own, so that no head comes twice,
-- neither in this run nor in the one before.
local number = os.time() * 1000
local fields = {
  ["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
  ["Accept"] = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
  ["Accept-Language"] = "en-US,en;q=0.5",
  ["Accept-Encoding"] = "gzip, deflate, br, zstd",
}

function request()
  number = number + 1
  fields["Cookie"] = "sessionid=0123456789abcdef" .. number .. "; csrftoken=" .. number
  return wrk.format("GET", wrk.path .. "?page=" .. number, fields)
end
