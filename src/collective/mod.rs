//! How workers talk to each other: the authenticated connector, framing, transport.
