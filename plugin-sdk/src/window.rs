/// The span of event time that a batch belongs to: `start_ns <= event time < end_ns`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    /// Start, inclusive, ns since the Unix epoch.
    pub start_ns: u64,
    /// End, exclusive.
    pub end_ns: u64,
    /// 0 on time; rises when late data fired the same window again.
    pub revision: u32,
    /// The watermark when the window fired.
    pub watermark_ns: u64,
    /// Fired before its end, or cut short by a shutdown.
    pub partial: bool,
}

impl Window {
    /// Length in seconds.
    pub fn seconds(&self) -> f64 {
        self.end_ns.saturating_sub(self.start_ns) as f64 / 1e9
    }

    /// Whole and seen for the first time: what a detector may learn from without learning anything twice.
    pub fn is_final(&self) -> bool {
        !self.partial && self.revision == 0
    }
}
