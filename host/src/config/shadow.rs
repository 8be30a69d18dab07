//! `[pipelines.NAME.shadow]`: detectors that judge the pipeline's windows in silence. What is not written is as in the
//! pipeline; a shadow that would judge as the pipeline does compares nothing.

use super::diagnostic::code;
use super::plan::*;
use super::raw::{IncidentSection, ShadowSection};
use super::resolve::Resolver;
use std::sync::Arc;

/// What the pipeline itself has: detectors, how they speak together, when incidents open and close.
type Live<'a> = (&'a [Arc<str>], Option<CombinePlan>, &'a IncidentPlan);

impl Resolver<'_> {
    pub(super) fn shadow(&mut self, pipeline: &str, written: &ShadowSection, live: Live<'_>) -> Option<ShadowPlan> {
        let path = &format!("{pipeline}.shadow");
        let detectors = match &written.detectors {
            None => live.0.to_vec(),
            named => {
                self.named_list(path, "detectors", named.clone(), |r, at, name| r.reference("detectors", at, name))
            }
        };
        let judges = written.detectors.as_ref().map_or(live.0.len(), Vec::len);
        let combine = match &written.combine {
            Some(combine) => Some(self.combine(&format!("{path}.combine"), combine, judges)?),
            None => live.1,
        };
        if let (None, Some(CombineRule::KOfN(k))) = (&written.combine, combine.map(|c| c.rule))
            && k > judges
        {
            let at = format!("{path}.detectors");
            let text =
                format!("the pipeline's `combine` asks for an alert of {k} detectors, and the shadow has {judges}");
            self.bad(&at, text, "too few", format!("add `combine` to `{path}`, or name {k} detectors or more"));
        }
        let incident = self.shadow_incident(&format!("{path}.incident"), &written.incident, live.2)?;
        let shadow = ShadowPlan { detectors, combine, incident };
        if same(&shadow, live) && !self.findings.is_broken(path) {
            let text = format!("`{path}` judges as the pipeline does: nothing is compared");
            let same = self.findings.about(code::SAME_SHADOW, path, text).warning().label("the same");
            let help = "name other `detectors`, `combine` or `incident`, or remove it";
            self.findings.diagnostics.push(same.help(help));
        }
        Some(shadow)
    }

    /// Keys that are written win over the pipeline's.
    fn shadow_incident(&mut self, path: &str, written: &IncidentSection, live: &IncidentPlan) -> Option<IncidentPlan> {
        let own = self.incident(path, written)?;
        let places = self.findings.places;
        let of = |key: &str| if places.contains(&format!("{path}.{key}")) { &own } else { live };
        Some(IncidentPlan {
            open_m: of("open_after").open_m,
            open_n: of("open_after").open_n,
            close_after_windows: of("close_after_windows").close_after_windows,
            update_interval_secs: of("update_interval_secs").update_interval_secs,
            cover_min_hosts: of("cover_min_hosts").cover_min_hosts,
            dominant_share: of("dominant_share").dominant_share,
            max_open_per_minute: of("max_open_per_minute").max_open_per_minute,
            suppress: of("suppress").suppress.clone(),
        })
    }
}

/// True when it judges as the pipeline does; the order of detectors does not matter.
fn same(shadow: &ShadowPlan, (detectors, combine, incident): Live<'_>) -> bool {
    let sorted = |ids: &[Arc<str>]| {
        let mut ids = ids.to_vec();
        ids.sort();
        ids
    };
    sorted(&shadow.detectors) == sorted(detectors) && shadow.combine == combine && shadow.incident == *incident
}
