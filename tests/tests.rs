//! All integration tests, one binary: one link, one list.
//!
//! | chapter | what it shows |
//! |---|---|
//! | [`tidy`] | the rules of the source tree that no compiler knows |

mod tidy;
