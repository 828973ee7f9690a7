//! All integration tests, one binary: one link, one list.
//!
//! | chapter | what it shows |
//! |---|---|
//! | [`resume`] | checkpoints, resuming, exports, early ends; a model of one's own |
//! | [`tidy`] | the rules of the source tree that no compiler knows |

mod resume;
mod tidy;
