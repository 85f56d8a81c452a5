"""Where mail goes: the route table, MX resolution, address policy."""
