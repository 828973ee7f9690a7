//! Scenarios of one worker.
