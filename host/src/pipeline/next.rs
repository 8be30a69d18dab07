//! What a pipeline becomes at a reload, made beside the one that runs. It takes over with one numbered order, the same for
//! all its threads: between two windows.

use super::gate::Gate;
use super::grouping::Grouping;
use super::outlet::Outlet;
use super::panel::NextPanel;
use super::shadow::Shadow;
use super::state::Keeper;
use crate::calibration::Timeline;
use crate::config::IncidentPlan;
use crate::detect::follow::NextFollow;
use crate::features::{FrameBuilder, PluginFeatures};
use crate::incident::{Context, NextWindows};
use crate::window::Ingest;
use std::sync::Arc;

/// Of one worker.
pub(super) struct NextWorker {
    pub(super) panel: NextPanel,
    /// Other windows.
    pub(super) grouping: Option<Grouping>,
    /// Other features of the same windows.
    pub(super) features: Option<NextFeatures>,
    /// Windows are judged between vote and takeover.
    pub(super) judged_since: bool,
}

/// What makes features from now on.
pub(super) enum NextFeatures {
    Flows(Box<FrameBuilder>),
    Records(Box<PluginFeatures>),
}

/// Of the desk.
pub(super) struct NextDesk {
    pub(super) context: Context,
    pub(super) incident: IncidentPlan,
    pub(super) outlets: Vec<Box<dyn Outlet>>,
    pub(super) followers: Vec<NextFollow>,
    pub(super) keeper: Option<Keeper>,
    pub(super) shadow: Option<Shadow>,
    pub(super) windows: NextWindows,
}

/// Of a pipeline.
pub(super) struct NextPipeline {
    pub(super) workers: Vec<NextWorker>,
    pub(super) desk: NextDesk,
    /// Other windows: those that are open close early.
    pub(super) ingest: Option<Ingest>,
    /// Timelines that begin with it.
    pub(super) fresh: Vec<Arc<Timeline>>,
    pub(super) gate: Arc<Gate>,
}
