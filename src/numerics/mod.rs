//! Numbers that are the same on every machine: own elementary functions, a counter-based generator; and the fingerprint of what isn't.
