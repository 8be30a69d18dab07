//! Runs the pipelines of a Kafka source. The reading thread polls, hands messages over and never waits for windows; a crew of
//! threads decodes and judges. The unit is a task: one partition where the topic is keyed, else all partitions that this
//! process has. A task is made from the committed positions and their checkpoint, whether the partition was just given, the
//! engine was killed, or a transaction broke: there is one way to begin, and every restart is a test of it. At a reload a task
//! becomes what the next plan says where it stands, as pipelines over sockets do.

mod committed;
mod crew;
mod delivery;
mod factory;
mod lane;
mod letters;
mod next;
mod outlet;
mod plan;
mod reader;
mod task;
mod transaction;

pub(super) use factory::Factory;
pub(super) use plan::{
    LogParts, build, is_of_log, is_touched, only_in_transactions, problems, settings, unreachable, unreachable_sinks,
};
pub(super) use reader::{Renew, run};
