//! All integration tests, one binary: one link, one list.
//!
//! | chapter | what it shows |
//! |---|---|
//! | [`hostile`] | strangers, signals, bad samples: the run is unharmed, or ends with a clear word |
//! | [`refusals`] | what is started wrong is refused by name, with nothing begun |
//! | [`tidy`] | the rules of the source tree that no compiler knows |

mod hostile;
mod refusals;
mod support;
mod tidy;
