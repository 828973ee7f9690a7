//! What a person sees: progress lines, metrics, events, the run's history.
