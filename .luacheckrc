-- Lua runs inside nginx; each module has one job and no globals of its own.
std = "ngx_lua"
max_line_length = 110
