//! All integration tests, one binary: one link, one list.
//!
//! | chapter | what it shows |
//! |---|---|
//! | [`elastic`] | workers come, go and die, and the weights do not notice |
//! | [`resume`] | checkpoints, resuming, exports, early ends; a model of one's own |
//! | [`tidy`] | the rules of the source tree that no compiler knows |

mod elastic;
mod resume;
mod support;
mod tidy;
