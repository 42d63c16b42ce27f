"""Where a finished record goes: the protocol, the registry by URL, and one small file a sink."""
