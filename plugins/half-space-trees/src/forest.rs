//! Streaming half-space trees (Tan, Ting, Liu 2011). The splits are drawn once, blindly; what is learned are counts: how
//! many rows of the last turn came through each node. A row that ends in nodes where few came is an odd one.

use crate::config::Config;
use kaminari_plugin_sdk::serde;

/// A node with at most this share of the turn's rows is not looked into: too few to tell anything.
const SIZE_LIMIT: f64 = 0.1;

/// Where the splits lie; the same for every entity.
pub struct Splits {
    /// Feature and place, tree by tree, a tree's inner nodes from the root level by level. Features go from 0 to 1.
    inner: Vec<(u8, f64)>,
    trees: usize,
    depth: u32,
    size_limit: u16,
    turn_rows: f64,
}

/// The rows of one entity, or of all.
#[derive(Clone, PartialEq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(crate = "kaminari_plugin_sdk::serde")]
pub struct Forest {
    /// Rows of the first turn, end to end; empty afterwards.
    first: Vec<f64>,
    /// What 0 and 1 are, per feature.
    ranges: Vec<(f64, f64)>,
    /// Rows of the last turn per node, tree by tree.
    reference: Vec<u16>,
    /// Rows of this turn so far.
    latest: Vec<u16>,
    rows: u32,
    /// Log2 of the density at the rows of the last turn, on average; of this turn, summed.
    usual: f64,
    sum: f64,
    /// Mean per feature in the last turn; sums of this one.
    means: Vec<f64>,
    sums: Vec<f64>,
}

impl Splits {
    /// Draws them.
    pub fn draw(config: &Config) -> Self {
        let mut random = Random(config.seed);
        let mut inner = Vec::with_capacity(config.trees * ((1 << config.depth) - 1));
        for _ in 0..config.trees {
            // A range around a random place, twice as wide as it need be: so that trees differ.
            let draw = |_: &String| {
                let s = random.unit();
                let half = 2.0 * s.max(1.0 - s);
                (s - half, s + half)
            };
            let mut ranges = vec![config.features.iter().map(draw).collect::<Vec<_>>()];
            for _ in 0..config.depth {
                let mut below = Vec::with_capacity(2 * ranges.len());
                for range in ranges {
                    let feature = (random.next() % range.len() as u64) as usize;
                    let (low, high) = range[feature];
                    let middle = (low + high) / 2.0;
                    inner.push((feature as u8, middle));
                    let (mut left, mut right) = (range.clone(), range);
                    left[feature].1 = middle;
                    right[feature].0 = middle;
                    below.extend([left, right]);
                }
                ranges = below;
            }
        }
        let size_limit = (SIZE_LIMIT * config.turn_rows as f64) as u16;
        Self { inner, trees: config.trees, depth: config.depth, size_limit, turn_rows: config.turn_rows as f64 }
    }

    /// Nodes of all trees.
    fn nodes(&self) -> usize {
        self.trees * self.nodes_of_tree()
    }

    fn nodes_of_tree(&self) -> usize {
        (1 << (self.depth + 1)) - 1
    }

    /// The nodes of one tree that a row comes through, root first, with the feature that led there.
    fn path(&self, tree: usize, row: &[f64]) -> impl Iterator<Item = (usize, usize)> {
        let inner = &self.inner[tree * ((1 << self.depth) - 1)..];
        let base = tree * self.nodes_of_tree();
        let mut at = 0;
        (0..=self.depth).map(move |level| {
            if level == 0 {
                return (base, 0);
            }
            let (feature, place) = inner[at];
            at = 2 * at + if row[feature as usize] < place { 1 } else { 2 };
            (base + at, feature as usize)
        })
    }

    /// Log2 of how dense rows are where this one lies; 0 would be as dense as everything spread evenly.
    fn density(&self, mass: &[u16], row: &[f64]) -> f64 {
        let mut sum = 0.0;
        for tree in 0..self.trees {
            let mut end = 0.0;
            for (level, (node, _)) in self.path(tree, row).enumerate() {
                end = f64::from(mass[node]) * (1u32 << level) as f64;
                if mass[node] <= self.size_limit {
                    break;
                }
            }
            sum += end;
        }
        // A tenth of a row in one of the trees: no row at all is finite, too.
        ((sum + 0.1) / (self.turn_rows * self.trees as f64)).log2()
    }

    fn count(&self, mass: &mut [u16], row: &[f64]) {
        for tree in 0..self.trees {
            for (node, _) in self.path(tree, row) {
                mass[node] = mass[node].saturating_add(1);
            }
        }
    }
}

impl Forest {
    /// Knows nothing.
    pub fn new(config: &Config) -> Self {
        let features = config.features.len();
        Self {
            first: Vec::new(),
            ranges: Vec::new(),
            reference: Vec::new(),
            latest: Vec::new(),
            rows: 0,
            usual: 0.0,
            sum: 0.0,
            means: vec![0.0; features],
            sums: vec![0.0; features],
        }
    }

    /// How often the density halves from usual to that of this row; 0 where it is denser. None in the first turn.
    pub fn score(&self, splits: &Splits, row: &[f64]) -> Option<f64> {
        (!self.reference.is_empty()).then(|| {
            let score = self.usual - splits.density(&self.reference, &self.scaled(row));
            score.max(0.0)
        })
    }

    /// Counts a row.
    pub fn learn(&mut self, splits: &Splits, config: &Config, row: &[f64]) {
        if self.reference.is_empty() {
            self.first.extend_from_slice(row);
            if self.first.len() >= config.turn_rows * row.len() {
                self.begin(splits, config);
            }
            return;
        }
        let scaled = self.scaled(row);
        self.sum += splits.density(&self.reference, &scaled);
        splits.count(&mut self.latest, &scaled);
        self.sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
        self.rows += 1;
        if self.rows as usize >= config.turn_rows {
            self.turn();
        }
    }

    /// The first turn is full: ranges, and what is usual.
    fn begin(&mut self, splits: &Splits, config: &Config) {
        let first = std::mem::take(&mut self.first);
        let rows = || first.chunks_exact(config.features.len());
        self.ranges = (0..config.features.len())
            .map(|i| match config.ranges.get(&config.features[i]) {
                Some([low, high]) => (*low, *high),
                None => rows().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), r| (l.min(r[i]), h.max(r[i]))),
            })
            .collect();
        self.reference = vec![0; splits.nodes()];
        self.latest = vec![0; splits.nodes()];
        for row in rows() {
            let scaled = self.scaled(row);
            splits.count(&mut self.reference, &scaled);
            self.sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
        }
        let n = config.turn_rows as f64;
        self.usual = rows().map(|row| splits.density(&self.reference, &self.scaled(row))).sum::<f64>() / n;
        self.means = self.sums.iter().map(|sum| sum / n).collect();
        self.sums.fill(0.0);
    }

    /// This turn becomes the last one.
    fn turn(&mut self) {
        let n = f64::from(self.rows);
        self.usual = self.sum / n;
        self.means = self.sums.iter().map(|sum| sum / n).collect();
        std::mem::swap(&mut self.reference, &mut self.latest);
        self.latest.fill(0);
        self.sums.fill(0.0);
        (self.rows, self.sum) = (0, 0.0);
    }

    /// By how much each feature led the row into sparse nodes (halvings, summed over the trees), and its usual value.
    pub fn reasons(&self, splits: &Splits, row: &[f64]) -> Vec<(f64, f64)> {
        let mut reasons: Vec<(f64, f64)> = self.means.iter().map(|mean| (0.0, *mean)).collect();
        let scaled = self.scaled(row);
        for tree in 0..splits.trees {
            let mut parent = splits.turn_rows;
            for (node, feature) in splits.path(tree, &scaled).skip(1) {
                let here = f64::from(self.reference[node]);
                // Half of the parent's rows is what an even spread would give.
                let halvings = ((parent + 1.0) / (2.0 * here + 1.0)).log2();
                reasons[feature].0 += halvings.max(0.0);
                if here <= f64::from(splits.size_limit) {
                    break;
                }
                parent = here;
            }
        }
        reasons
    }

    /// Whether this has the shape that the splits ask for: what was saved under another configuration has not.
    pub fn fits(&self, splits: &Splits, config: &Config) -> bool {
        let (features, nodes) = (config.features.len(), splits.nodes());
        let begun = self.ranges.len() == features && self.reference.len() == nodes && self.latest.len() == nodes;
        let before = self.reference.is_empty()
            && self.first.len() < config.turn_rows * features
            && self.first.len().is_multiple_of(features);
        self.means.len() == features && self.sums.len() == features && (begun || before)
    }

    fn scaled(&self, row: &[f64]) -> Vec<f64> {
        let scale = |(x, (low, high)): (&f64, &(f64, f64))| if high > low { (x - low) / (high - low) } else { x - low };
        row.iter().zip(&self.ranges).map(scale).collect()
    }
}

/// SplitMix64: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to below 1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}
