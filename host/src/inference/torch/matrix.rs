//! The rows of a group of models as one matrix of `f32`, written straight from Arrow's `f64` columns. Comes in: models;
//! goes out: which columns the matrix has, and the columns themselves, end to end.
//!
//! Raw features in `f32` are good enough for the device to take their logarithm (a relative error of 6e-8 is an error of
//! 6e-8 in it). A feature that is taken as it is may lie far from 0 in a narrow band: its centre is subtracted here, in
//! `f64`, before it is rounded. Models with the same features share their columns.

use super::handles::Place;
use crate::inference::manifest::{FeatureSpec, Transform};
use crate::inference::model::Model;
use crate::inference::panel::Columns;
use std::sync::Arc;

/// Values from which on more threads than the caller's write them.
const MANY: usize = 1 << 22;

/// Columns of the matrix.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Matrix {
    /// What the caller gives.
    pub names: Columns,
    /// Which of these makes the column, and what is subtracted.
    columns: Vec<(usize, f64)>,
    /// Per model.
    pub places: Vec<Place>,
}

impl Matrix {
    pub fn of(models: &[Arc<Model>]) -> Self {
        let names = Columns::of(models);
        let mut columns: Vec<(usize, f64, bool)> = Vec::new();
        let mut place = |spec: &FeatureSpec, source: usize| {
            // Bands that overlap share a column: then it is the first one's centre that was subtracted.
            let (offset, reach) = match spec.transform {
                Transform::Log1p => (0.0, 0.0),
                Transform::Identity => (spec.center, 16.0 * spec.scale),
            };
            let plain = spec.transform == Transform::Identity;
            let near = |at: &(usize, f64, bool)| (at.0, at.2) == (source, plain) && (at.1 - offset).abs() <= reach;
            let at = columns.iter().position(near).unwrap_or_else(|| {
                columns.push((source, offset, plain));
                columns.len() - 1
            });
            (at as u32, columns[at].1)
        };
        let places = models.iter().zip(&names.of).map(|(model, sources)| {
            let placed = model.manifest.features.iter().zip(sources).map(|(spec, &source)| place(spec, source));
            let (columns, offsets) = placed.unzip();
            Place { columns, offsets }
        });
        let mut places: Vec<Place> = places.collect();
        // Those with a logarithm first, as the backend has them: it may take the matrix as it is.
        let mut order: Vec<usize> = (0..columns.len()).collect();
        order.sort_by_key(|&at| columns[at].2);
        let moved = |at: u32| order.iter().position(|&from| from == at as usize).unwrap_or(0) as u32;
        places.iter_mut().flat_map(|place| &mut place.columns).for_each(|at| *at = moved(*at));
        let columns = order.iter().map(|&at| (columns[at].0, columns[at].1)).collect();
        Self { names, columns, places }
    }

    /// Number of columns.
    pub fn width(&self) -> usize {
        self.columns.len()
    }

    /// Writes the rows `from..from + rows` of the caller's columns; `to` has room for just these.
    pub fn write(&self, columns: &[&[f64]], from: usize, rows: usize, to: &mut [f32]) {
        let one = &|&(source, offset): &(usize, f64), to: &mut [f32]| {
            for (to, x) in to.iter_mut().zip(&columns[source][from..from + rows]) {
                *to = (x - offset) as f32;
            }
        };
        let rows = rows.max(1);
        if to.len() < MANY {
            return self.columns.iter().zip(to.chunks_exact_mut(rows)).for_each(|(column, to)| one(column, to));
        }
        // One core writes slower than a device reads.
        let each = self.columns.len().div_ceil(std::thread::available_parallelism().map_or(1, usize::from));
        std::thread::scope(|scope| {
            for (columns, to) in self.columns.chunks(each).zip(to.chunks_mut(each * rows)) {
                scope.spawn(move || {
                    columns.iter().zip(to.chunks_exact_mut(rows)).for_each(|(column, to)| one(column, to))
                });
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inference::Activation;
    use crate::inference::tests::model;

    fn of(features: &[(&str, Transform, f64)]) -> Arc<Model> {
        let mut model = model(&[features.len(), 2, features.len()], Activation::Relu, 1);
        for (spec, (name, transform, center)) in model.manifest.features.iter_mut().zip(features) {
            (spec.name, spec.transform, spec.center, spec.scale) = (name.to_string(), *transform, *center, 1.0);
        }
        Arc::new(model)
    }

    #[test]
    fn features_are_shared_where_their_bands_are() {
        use Transform::{Identity, Log1p};
        let one = of(&[("a", Log1p, 3.0), ("b", Identity, 1e6)]);
        let two = of(&[("b", Identity, 1e6 + 5.0), ("a", Log1p, 9.0), ("c", Identity, 0.5)]);
        let far = of(&[("b", Identity, 10.0), ("b", Log1p, 2.0)]);
        let matrix = Matrix::of(&[one, two, far]);
        assert_eq!(matrix.names.names, ["a", "b", "c"]);
        assert_eq!(matrix.columns, [(0, 0.0), (1, 0.0), (1, 1e6), (2, 0.5), (1, 10.0)]);
        assert_eq!(matrix.places[1], Place { columns: vec![2, 0, 3], offsets: vec![1e6, 0.0, 0.5] });
        assert_eq!(matrix.places[2], Place { columns: vec![4, 1], offsets: vec![10.0, 0.0] });
        let mut to = [0.0; 10];
        let columns: [&[f64]; 3] = [&[9.0, 1.0, 2.0], &[9.0, 1e6 + 0.25, 1e6], &[9.0, 0.5, 1.0]];
        matrix.write(&columns, 1, 2, &mut to);
        let many = vec![3.0; MANY / 4];
        let mut wide = vec![0.0; 5 * many.len()];
        matrix.write(&[&many, &many, &many], 0, many.len(), &mut wide);
        let at = |column: usize| (wide[column * many.len()], wide[(column + 1) * many.len() - 1]);
        assert_eq!([0, 1, 2, 3, 4].map(at), [3.0, 3.0, -999_997.0, 2.5, -7.0].map(|x| (x, x)));
        assert_eq!(to, [1.0, 2.0, 1_000_000.25, 1e6, 0.25, 0.0, 0.0, 0.5, 999_990.25, 999_990.0]);
    }
}
