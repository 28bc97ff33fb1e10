-- 100 MiB in each request: as they are, or as the file of a form where the path says so.
local content = string.rep("x", 100 * 1024 * 1024)
wrk.method = "POST"
if wrk.path == "/form" then
  local head = '--bound\r\nContent-Disposition: form-data; name="file"; filename="big"\r\n\r\n'
  wrk.headers["Content-Type"] = "multipart/form-data; boundary=bound"
  wrk.body = head .. content .. "\r\n--bound--\r\n"
else
  wrk.body = content
end
