//! Rows of benign features: cut in time, cleaned and thinned.

use super::error::TrainError;
use super::random::mix;

/// Rows of features, a column each.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    /// Of the columns.
    pub names: Vec<String>,
    /// One per name, a value per row.
    pub columns: Vec<Vec<f64>>,
    /// End of each row's window, nanoseconds since the Unix epoch.
    pub time_ns: Vec<u64>,
}

impl Rows {
    /// How many.
    pub fn len(&self) -> usize {
        self.time_ns.len()
    }

    /// None.
    pub fn is_empty(&self) -> bool {
        self.time_ns.is_empty()
    }

    /// First and last window end.
    pub fn span(&self) -> Option<(u64, u64)> {
        Some((*self.time_ns.iter().min()?, *self.time_ns.iter().max()?))
    }

    /// One row.
    pub fn row(&self, at: usize) -> Vec<f64> {
        self.columns.iter().map(|c| c[at]).collect()
    }

    /// The rows for which `keep` says so, in order.
    pub fn filter(&self, keep: impl Fn(usize) -> bool) -> Self {
        let kept: Vec<usize> = (0..self.len()).filter(|&i| keep(i)).collect();
        Self {
            names: self.names.clone(),
            columns: self.columns.iter().map(|c| kept.iter().map(|&i| c[i]).collect()).collect(),
            time_ns: kept.iter().map(|&i| self.time_ns[i]).collect(),
        }
    }

    /// The rows whose features are all finite, and how many are not.
    pub(super) fn finite(&self) -> (Self, usize) {
        let finite = self.filter(|i| self.columns.iter().all(|c| c[i].is_finite()));
        let left_out = self.len() - finite.len();
        (finite, left_out)
    }

    /// At most `most` rows, spread over all of them. Picked by a hash of the position, not every k-th: rows of one window
    /// stand in the order of their entities, and a stride could see the same entities again and again.
    pub(super) fn thinned(&self, most: usize) -> Self {
        if self.len() <= most {
            return self.clone();
        }
        let mut hashes: Vec<u64> = (0..self.len() as u64).map(mix).collect();
        let (_, limit, _) = hashes.select_nth_unstable(most);
        let limit = *limit;
        // `mix` is a bijection: no two hashes are alike.
        self.filter(|i| mix(i as u64) < limit)
    }

    pub(super) fn check(&self, which: &'static str) -> Result<(), TrainError> {
        if self.columns.is_empty() || self.names.is_empty() {
            return Err(TrainError::NoFeatures);
        }
        let lens = self.names.iter().map(Some).chain(std::iter::repeat(None));
        for (name, column) in lens.zip(&self.columns) {
            if name.is_none() || column.len() != self.len() {
                let feature = name.map_or_else(|| "a column without a name".into(), Clone::clone);
                return Err(TrainError::Ragged { which, feature, rows: self.len(), values: column.len() });
            }
        }
        if let Some(name) = self.names.get(self.columns.len()) {
            return Err(TrainError::Ragged { which, feature: name.clone(), rows: self.len(), values: 0 });
        }
        Ok(())
    }
}

/// Cuts rows in two by time: the last `share` of the time is the second part. Nothing is shuffled, so what is held back is
/// traffic that comes after what is learnt from, as in the field. Rows of one window stay together.
pub fn split_in_time(rows: &Rows, share: f64) -> (Rows, Rows) {
    let Some((first, last)) = rows.span() else { return (rows.clone(), rows.clone()) };
    let cut = last - ((last - first) as f64 * share.clamp(0.0, 1.0)) as u64;
    (rows.filter(|i| rows.time_ns[i] <= cut), rows.filter(|i| rows.time_ns[i] > cut))
}
