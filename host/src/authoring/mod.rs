//! Making plugins. Comes in: a name, a folder, scenarios; goes out: a folder to begin with, a component, what differs
//! from what was expected. Refused: names that no package may have, folders that exist, scenarios that make no sense.
//! Runs other people's tools (cargo, componentize-py, node), never installs more than Rust's own guest target.

mod build;
mod error;
mod expected;
mod input;
mod project;
mod row;
mod scenario;
mod template;

pub use build::{Built, build};
pub use error::AuthoringError;
pub use expected::{Difference, Line, Tolerance};
pub use input::{Batch, Input};
pub use project::{Grants, Language, Project};
pub use scenario::{Outcome, Scenario};
pub use template::{New, Sdk, create};

/// The contract, for authors whose tools make bindings of it.
pub const WIT: &str = include_str!("../../../wit/kaminari.wit");
