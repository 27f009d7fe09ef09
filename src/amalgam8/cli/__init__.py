"""The command line, a8ctl. Owns no logic: what it shows and changes goes through ``amalgam8.clients``."""
