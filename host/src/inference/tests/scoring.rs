//! Every instruction set of this CPU against the reference in `f64`.

use super::{Random, model};
use crate::inference::*;
use proptest::prelude::*;
use std::sync::Arc;

/// Raw values of any size, both signs, zeros, and now and then none that is finite.
fn columns(features: usize, rows: usize, sick: bool, random: &mut Random) -> Vec<Vec<f64>> {
    let mut value = || match random.below(if sick { 40 } else { 36 }) {
        0..12 => random.number(),
        12..24 => 10f64.powf(8.0 * random.number()),
        24..30 => -(10f64.powf(3.0 * random.number())),
        30..33 => 0.0,
        33 => f64::MAX,
        34 => -f64::MIN_POSITIVE,
        35 => 1e300 * random.number(),
        36 => f64::INFINITY,
        37 => f64::NEG_INFINITY,
        _ => f64::NAN,
    };
    (0..features).map(|_| (0..rows).map(|_| value()).collect()).collect()
}

fn slices(columns: &[Vec<f64>]) -> Vec<&[f64]> {
    columns.iter().map(Vec::as_slice).collect()
}

fn agree(model: &Arc<Model>, columns: &[Vec<f64>]) -> Result<(), TestCaseError> {
    for isa in Isa::available() {
        let mut losses = Losses::default();
        let mut scorer = CpuBackend::with(isa).unwrap().scorer(model).unwrap();
        scorer.losses(&slices(columns), &mut losses).unwrap();
        prop_assert_eq!((losses.mse.len(), losses.log1p.len()), (columns[0].len(), columns[0].len()));
        for row in 0..columns[0].len() {
            let raw: Vec<f64> = columns.iter().map(|column| column[row]).collect();
            let (mse, log1p) = reference::losses(model.network().unwrap(), &model.manifest.features, &raw);
            for (got, expected) in [(losses.mse[row], mse), (losses.log1p[row], log1p)] {
                let same = reference::close(f64::from(got), expected) || got.is_nan() && expected.is_nan();
                prop_assert!(same, "{:?}, row {}: {} and not {}: {:?}", isa, row, got, expected, raw);
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    #[test]
    fn every_instruction_set_is_the_reference(
        features in 1usize..24,
        hidden in prop::collection::vec(1usize..40, 0..4),
        tanh in any::<bool>(),
        rows in 0usize..140,
        sick in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let mut dims = vec![features];
        dims.extend(hidden);
        dims.push(features);
        let activation = if tanh { Activation::Tanh } else { Activation::Relu };
        let model = Arc::new(model(&dims, activation, seed));
        agree(&model, &columns(features, rows, sick, &mut Random::new(seed ^ 1)))?;
    }
}

#[test]
fn a_sick_row_has_no_loss_and_its_neighbours_theirs() {
    let model = Arc::new(model(&[3, 5, 3], Activation::Relu, 7));
    for isa in Isa::available() {
        let mut scorer = CpuBackend::with(isa).unwrap().scorer(&model).unwrap();
        let well: Vec<Vec<f64>> = (0..3).map(|f| (0..67).map(|row| f64::from(row * f)).collect()).collect();
        let (mut before, mut after) = (Losses::default(), Losses::default());
        scorer.losses(&slices(&well), &mut before).unwrap();
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let mut sick = well.clone();
            sick[1][33] = value;
            scorer.losses(&slices(&sick), &mut after).unwrap();
            for row in 0..67 {
                if row == 33 {
                    assert!(after.mse[row].is_nan() && after.log1p[row].is_nan(), "{isa:?}: {value}");
                } else {
                    assert_eq!((after.mse[row], after.log1p[row]), (before.mse[row], before.log1p[row]), "{isa:?}");
                }
            }
        }
    }
}

#[test]
fn prepared_rows_score_as_raw_ones_do() {
    let model = Arc::new(model(&[7, 9, 2, 9, 7], Activation::Tanh, 3));
    let raw = columns(7, 100, false, &mut Random::new(5));
    let prepare = |(spec, column): (&FeatureSpec, &Vec<f64>)| column.iter().map(|x| spec.prepare(*x) as f32).collect();
    let prepared: Vec<Vec<f32>> = model.manifest.features.iter().zip(&raw).map(prepare).collect();
    let prepared: Vec<&[f32]> = prepared.iter().map(Vec::as_slice).collect();
    for isa in Isa::available() {
        let mut scorer = CpuBackend::with(isa).unwrap().cpu_scorer(&model).unwrap();
        let (mut losses, mut mse) = (Losses::default(), Vec::new());
        scorer.losses(&slices(&raw), &mut losses).unwrap();
        scorer.prepared_mse(&prepared, &mut mse).unwrap();
        for (a, b) in mse.iter().zip(&losses.mse) {
            assert!(reference::close(f64::from(*a), f64::from(*b)), "{isa:?}: {a} and {b}");
        }
    }
}

#[test]
fn columns_that_are_not_the_models_are_refused() {
    let model = Arc::new(model(&[2, 1, 2], Activation::Relu, 1));
    let mut scorer = CpuBackend::detect().scorer(&model).unwrap();
    let mut out = Losses::default();
    assert_eq!(scorer.losses(&[&[1.0]], &mut out), Err(InferenceError::Columns { expected: 2, got: 1 }));
    let uneven = scorer.losses(&[&[1.0, 2.0], &[1.0]], &mut out);
    assert_eq!(uneven, Err(InferenceError::Lengths { column: 1, expected: 2, got: 1 }));
    assert_eq!(scorer.explain(&[1.0]), Err(InferenceError::Columns { expected: 2, got: 1 }));
    // No rows are no mistake.
    scorer.losses(&[&[], &[]], &mut out).unwrap();
    assert!(out.mse.is_empty() && out.log1p.is_empty());
}

#[test]
fn the_best_instructions_are_taken_and_others_refused() {
    let available = Isa::available();
    assert_eq!(CpuBackend::detect().isa(), *available.last().unwrap());
    assert_eq!(CpuBackend::detect().name(), format!("cpu/{}", available.last().unwrap().name()));
    for isa in [Isa::Scalar, Isa::Sse2, Isa::Avx2, Isa::Avx512, Isa::Neon] {
        assert_eq!(CpuBackend::with(isa).is_some(), available.contains(&isa), "{isa:?}");
    }
}

#[test]
fn an_explanation_begins_with_the_feature_that_is_off() {
    // A network that says 0 whatever comes: the expected value of a feature is its centre.
    let mut random = Random::new(2);
    let mut manifest = super::manifest(&[3, 2, 3], Activation::Tanh, &mut random);
    for (feature, transform) in
        manifest.features.iter_mut().zip([Transform::Identity, Transform::Log1p, Transform::Log1p])
    {
        *feature = FeatureSpec { name: feature.name.clone(), transform, center: 2.0, scale: 0.5, clip: 10.0 };
    }
    let zero =
        |inputs, outputs| Layer { inputs, outputs, weight: vec![0.0; inputs * outputs], bias: vec![0.0; outputs] };
    let network = Network { layers: vec![zero(3, 2), zero(2, 3)], activation: Activation::Tanh, code: None };
    let model = Arc::new(Model::new(manifest, network).unwrap());
    let mut scorer = CpuBackend::detect().scorer(&model).unwrap();

    let center = 2f64.exp_m1();
    let parts = scorer.explain(&[2.5, center, 3f64.exp_m1()]).unwrap();
    assert_eq!(parts.iter().map(|part| part.feature).collect::<Vec<_>>(), [2, 0, 1]);
    for (part, (observed, expected, error)) in
        parts.iter().zip([(3f64.exp_m1(), center, 4.0), (2.5, 2.0, 1.0), (center, center, 0.0)])
    {
        assert_eq!(part.observed, observed);
        assert!((part.expected - expected).abs() < 1e-9 && (part.error - error).abs() < 1e-9, "{part:?}");
    }
    // The parts are what the loss is made of.
    let mut losses = Losses::default();
    scorer.losses(&[&[2.5], &[center], &[3f64.exp_m1()]], &mut losses).unwrap();
    assert!(reference::close(f64::from(losses.mse[0]), 5.0 / 3.0));
    assert!(scorer.explain(&[f64::NAN, 0.0, 0.0]).unwrap().iter().all(|part| part.error.is_nan()));
}
