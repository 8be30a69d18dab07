use super::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Errors of benign rows that go together.
fn errors(rows: usize, seed: u64) -> (Vec<f64>, Vec<f64>) {
    let mut rng = StdRng::seed_from_u64(seed);
    (0..rows)
        .map(|_| {
            let (a, b) = (rng.random::<f64>(), rng.random::<f64>());
            let common = -(1.0 - a).ln();
            (0.02 * common, 0.01 * common - 0.001 * (1.0 - b).ln())
        })
        .unzip()
}

#[test]
fn the_combined_score_is_calibrated_although_the_errors_go_together() {
    let (mse, log1p) = errors(100_000, 1);
    let calibration = Calibration::fit(&mse, &log1p, 100_000.0).expect("rows enough");
    calibration.check().expect("sane");
    let (mse, log1p) = errors(100_000, 2);
    for wanted in [1.0, 2.0, 3.0] {
        let above = mse.iter().zip(&log1p).filter(|(m, l)| calibration.tail_score(**m, **l) > wanted).count();
        let nominal = 100_000.0 * 10f64.powf(-wanted);
        assert!((above as f64 / nominal - 1.0).abs() < 0.25, "{above} rows above {wanted}, {nominal} expected");
    }
    assert!(calibration.tail_score(1e3, 5.0) > 8.0);
    assert!(calibration.tail_score(f64::NAN, 0.1).is_nan() && calibration.tail_score(0.1, f64::NAN).is_nan());
    assert!(calibration.tail_score(0.0, 0.0) >= 0.0);
}

#[test]
fn rows_without_an_error_are_left_out() {
    let (mut mse, log1p) = errors(1000, 3);
    let whole = Calibration::fit(&mse[10..], &log1p[10..], 10.0).expect("rows enough");
    mse[..10].fill(f64::NAN);
    assert_eq!(Calibration::fit(&mse, &log1p, 10.0), Ok(whole));
}

#[test]
fn refuses_what_is_no_calibration() {
    let (mse, log1p) = errors(1000, 4);
    let error = |mse: &[f64], log1p: &[f64], rows| Calibration::fit(mse, log1p, rows).expect_err("bad").to_string();
    assert_eq!(
        error(&mse[1..], &log1p, 1.0),
        "999 mean squared errors and 1000 mean log1p errors: there must be one of each per row"
    );
    assert_eq!(error(&mse, &log1p, 0.0), "rows_per_day 0 must be a finite number above 0");
    assert_eq!(error(&mse[..5], &log1p[..5], 1.0), "5 scores are too few for a tail: at least 100 are needed");
    let mut calibration = Calibration::fit(&mse, &log1p, 1.0).expect("rows enough");
    calibration.score.scale = 0.0;
    assert_eq!(calibration.check().expect_err("bad").to_string(), "scale 0 must be a finite number above 0");
}

#[test]
fn the_limit_is_rows_per_false_alarm() {
    assert_eq!(limit(1.0, 100_000.0), 5.0);
    assert_eq!(limit(10.0, 100_000.0), 4.0);
    assert_eq!(limit(1000.0, 10.0), 0.0);
    assert_eq!(limit(0.0, 10.0), f64::INFINITY);
}

#[test]
fn toml_carries_a_calibration_exactly() {
    let (mse, log1p) = errors(1000, 5);
    let calibration = Calibration::fit(&mse, &log1p, 1440.0).expect("rows enough");
    let text = toml::to_string(&calibration).expect("a table");
    assert_eq!(toml::from_str::<Calibration>(&text).expect("the same table"), calibration);
}
