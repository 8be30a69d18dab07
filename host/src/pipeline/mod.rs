//! pipeline

/// What the stages offer.
pub fn registry() -> crate::config::Registry {
    crate::config::Registry { sources: &[], sinks: &[], features: &[] }
}

/// What a check against the environment found wrong.
pub struct Problem {
    /// Diagnostic code.
    pub code: &'static str,
    /// Dotted path in the configuration.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

/// Loads plugins and asks detectors whether the pipelines' columns suffice.
pub fn check(_plan: &crate::config::Plan) -> Vec<Problem> {
    Vec::new()
}
