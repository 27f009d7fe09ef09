"""nginx with Lua as the sidecar's proxy: the lean one."""
