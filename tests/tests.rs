//! All integration tests, one binary: one link, one list.
//!
//! | chapter | what it shows |
//! |---|---|
//! | [`elastic`] | workers come, go and die, and the weights do not notice |
//! | [`tidy`] | the rules of the source tree that no compiler knows |

mod elastic;
mod support;
mod tidy;
