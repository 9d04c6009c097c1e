"""raftkv-trio: a replicated key-value node, and a replicated state machine inside any Trio program."""
