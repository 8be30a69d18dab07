//! What becomes of what a plugin knew when another takes its place.

/// How a hand-over has ended: the label `outcome`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handover {
    /// The successor has gone on with it as it is.
    Restored,
    /// The same, after a migration.
    Migrated,
    /// The successor has begun anew.
    Reset,
    /// The successor was not taken.
    Refused,
}

impl Handover {
    /// Value of the label `outcome`.
    pub const fn name(self) -> &'static str {
        match self {
            Handover::Restored => "restored",
            Handover::Migrated => "migrated",
            Handover::Reset => "reset",
            Handover::Refused => "refused",
        }
    }
}
