use super::*;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Scores of a generalised Pareto distribution; shape 0 is the exponential.
fn pareto_scores(n: usize, shape: f64, scale: f64, seed: u64) -> Vec<f64> {
    let mut rng = StdRng::seed_from_u64(seed);
    let score = |u: f64| if shape == 0.0 { -scale * u.ln() } else { scale * (u.powf(-shape) - 1.0) / shape };
    (0..n).map(|_| score(1.0 - rng.random::<f64>())).collect()
}

fn fit(scores: &[f64]) -> Tail {
    let tail = Tail::fit(scores, 1.0).expect("scores enough");
    tail.check().expect("a fitted tail is sane");
    tail
}

#[test]
fn recovers_the_distribution_it_was_drawn_from() {
    for scale in [1.0, 1e-4, 30.0] {
        let tail = fit(&pareto_scores(400_000, 0.0, scale, 7));
        assert!((tail.scale / scale - 1.0).abs() < 0.05, "{tail:?}");
        assert!((tail.exceed - EXCEED).abs() < 1e-5 && tail.shape == 0.0, "{tail:?}");
        // Also where there were few scores, and none.
        for log10 in [2.5, 4.5, 7.0] {
            let found = tail.log10(scale * log10 * std::f64::consts::LN_10);
            assert!((found - log10).abs() < 0.3, "{log10}: {found} {tail:?}");
        }
    }
}

#[test]
fn a_shape_from_a_file_counts() {
    // Above 1: (1 + 0.25 * (s - 1) / 2) ^ -4. At 9 it is a sixteenth.
    let tail = Tail { shape: 0.25, scale: 2.0, threshold: 1.0, ..plain() };
    assert!((tail.probability(9.0) - tail.exceed / 16.0).abs() < 1e-12);
    assert!((tail.score_at(tail.exceed / 16.0) - 9.0).abs() < 1e-9);
}

#[test]
fn what_was_seen_in_a_day_is_not_called_rarer() {
    // Three scores above all others, which the exponential does not expect.
    let mut scores = pareto_scores(10_000, 0.0, 1.0, 9);
    scores.extend([12.0, 13.5, 14.0]);
    let tail = fit(&scores);
    for (score, reached) in [(14.0, 1.0), (13.5, 2.0), (12.0, 3.0)] {
        // Up to a margin, so that the same row again is no news.
        let p = tail.probability(score * (1.0 + MARGIN));
        assert!((p / (reached / 10_003.0) - 1.0).abs() < 1e-9, "{score}: {p} {tail:?}");
    }
    // One false alarm in as many rows: above the largest score.
    assert_eq!(tail.score_at(1.0 / 10_003.0), 14.0 * (1.0 + MARGIN));
    // Above what was seen the fit counts again.
    assert!(tail.log10(14.2) > tail.log10(14.0) + 1.0);
    // Where the fit is the one that calls them more common, it stays.
    let tail = fit(&pareto_scores(10_000, -0.5, 1.0, 9));
    assert!(tail.score_at(0.9 / 10_000.0) > tail.largest[0]);
}

#[test]
fn a_stray_row_does_bounded_harm_and_none_in_less_than_a_day() {
    let calm = pareto_scores(10_000, 0.0, 1.0, 9);
    let mut scores = calm.clone();
    scores.push(1e6);
    let limit = |scores: &[f64], days| Tail::fit(scores, days).expect("scores enough").score_at(1e-4);
    // The scale is a mean and moves a little; the row itself would be a limit of a million.
    scores[10_000] = 100.0;
    assert!(limit(&scores, 1.0) < 3.0 * limit(&calm, 1.0), "{}", limit(&scores, 1.0));
    assert!(limit(&scores, 0.2) < 1.5 * limit(&calm, 0.2));
    assert!(Tail::fit(&scores, 0.2).expect("scores enough").largest.is_empty());
}

#[test]
fn agrees_with_the_scores_in_the_body() {
    let scores = pareto_scores(50_000, 0.1, 3.0, 3);
    let tail = fit(&scores);
    for p in [0.995, 0.97, 0.7, 0.33, 0.12, 0.045, 0.03] {
        let score = tail.score_at(p);
        let share = scores.iter().filter(|s| **s >= score).count() as f64 / scores.len() as f64;
        assert!((share / p - 1.0).abs() < 0.02, "{share} of the scores, not {p}, reach {score}");
    }
}

#[test]
fn too_few_are_refused_and_what_is_no_number_does_not_count() {
    let mut scores = vec![f64::NAN; 500];
    scores.extend((1..MIN_SCORES).map(|i| i as f64));
    scores.extend([f64::INFINITY, f64::NEG_INFINITY]);
    assert_eq!(Tail::fit(&scores, 1.0), Err(TailError::TooFew { got: MIN_SCORES - 1, least: MIN_SCORES }));
    scores.push(0.0);
    let tail = fit(&scores);
    assert_eq!(tail.rows, MIN_SCORES as u64);
    assert!(tail.probability(f64::NAN).is_nan() && tail.log10(f64::NAN).is_nan());
}

#[test]
fn scores_that_are_all_the_same_make_any_higher_one_rare() {
    for value in [0.0, 5.0, -1e9] {
        let tail = fit(&vec![value; 1000]);
        assert_eq!(tail.probability(value), 1.0);
        assert_eq!(tail.probability(value - 1.0), 1.0);
        assert!(tail.log10(value + value.abs().max(1.0) * 0.01) > 6.0, "{tail:?}");
        assert!(tail.log10(f64::INFINITY).is_finite());
    }
}

#[test]
fn ties_count_all_that_have_them() {
    // Nine of ten are zero, one in ten is one: a score of one is one in ten.
    let scores: Vec<f64> = (0..1000).map(|i| if i % 10 == 0 { 1.0 } else { 0.0 }).collect();
    let tail = fit(&scores);
    assert_eq!(tail.probability(0.0), 1.0);
    assert!((tail.probability(1.0) - 0.1).abs() < 1e-9, "{}", tail.probability(1.0));
    assert!(tail.log10(1.1) > 3.0);
    // Small whole numbers, each with a tenth of the rows above the one before.
    let scores: Vec<f64> = (1..=100_000_u32).map(|i| f64::from(i.trailing_zeros())).collect();
    let tail = fit(&scores);
    assert!((tail.log10(12.0) - 12.0 * 2f64.log10()).abs() < 1.0, "{tail:?}");
}

/// A tail made by hand.
fn plain() -> Tail {
    let body = vec![0.0; BODY.iter().filter(|p| **p > 0.02).count()];
    Tail { rows: 1000, exceed: 0.02, threshold: 1.0, shape: 0.0, scale: 1.0, body, largest: Vec::new() }
}

#[test]
fn a_handful_of_excesses_is_no_shape() {
    // All but five are the same.
    let mut scores = vec![1.0; 10_000];
    scores.extend([2.0, 2.5, 3.0, 4.0, 9.0]);
    let tail = fit(&scores);
    assert_eq!((tail.shape, tail.threshold), (0.0, 1.0));
    assert!((tail.scale - 3.1).abs() < 1e-9 && (tail.exceed - 5.0 / 10_005.0).abs() < 1e-9);
}

#[test]
fn a_distribution_that_ends_still_has_a_probability_beyond() {
    let tail = Tail { shape: -0.5, ..plain() };
    tail.check().expect("sane");
    // Without more ado it would end at 3.
    let scores: Vec<f64> = (0..100).map(|i| 2.5 + f64::from(i) * 0.1).collect();
    assert!(scores.windows(2).all(|w| tail.log10(w[0]) < tail.log10(w[1])));
    assert!(tail.log10(1e12).is_finite() && tail.log10(1e12) > 1e6);
    assert!(tail.probability(1e12) > 0.0);
    assert!((tail.score_at_log10(tail.log10(7.0)) - 7.0).abs() < 1e-9);
}

#[test]
fn insane_tails_are_refused_with_what_is_wrong() {
    let good = fit(&pareto_scores(1000, 0.0, 1.0, 1));
    let bad = |change: &dyn Fn(&mut Tail)| {
        let mut tail = good.clone();
        change(&mut tail);
        tail.check().expect_err("insane").to_string()
    };
    assert_eq!(bad(&|t| t.rows = 0), "rows is 0: a tail is fitted to scores");
    assert_eq!(bad(&|t| t.exceed = 0.0), "exceed 0 must be above 0 and below 1");
    assert_eq!(bad(&|t| t.exceed = f64::NAN), "exceed NaN must be above 0 and below 1");
    assert_eq!(bad(&|t| t.threshold = f64::INFINITY), "threshold inf must be a finite number");
    assert_eq!(bad(&|t| t.shape = 3.0), "shape 3 must be at least -1 and below 1");
    assert_eq!(bad(&|t| t.scale = -1.0), "scale -1 must be a finite number above 0");
    assert!(bad(&|t| t.body.truncate(3)).starts_with("body has 3 scores, but "));
    assert!(bad(&|t| t.body.swap(2, 5)).starts_with("body["));
    assert!(bad(&|t| t.largest.swap(0, 3)).starts_with("largest["));
    assert!(bad(&|t| t.largest.extend([t.threshold; 6])).ends_with("is one too many: exceed 0.025 of 1000 rows"));
    assert!(bad(&|t| t.body[0] = f64::NAN).starts_with("body[0] NaN"));
}

#[test]
fn toml_carries_it_exactly() {
    let tail = fit(&pareto_scores(3000, 0.2, 1e-3, 5));
    let text = toml::to_string(&tail).expect("a table");
    assert_eq!(toml::from_str::<Tail>(&text).expect("the same table"), tail);
}

/// Tails of all kinds: smooth, tied, of any sign and size, with few rows and many.
fn any_tail() -> impl Strategy<Value = Tail> {
    let smooth =
        (-0.9..0.9, 0u64..1000, 100usize..3000).prop_map(|(shape, seed, n)| pareto_scores(n, shape, 1.0, seed));
    let tied = prop::collection::vec((-3i32..6).prop_map(f64::from), 100..400);
    let scores = prop_oneof![smooth, tied];
    (scores, -6i32..6, -1e3..1e3).prop_map(|(scores, size, shift)| {
        let size = 10f64.powi(size);
        fit(&scores.iter().map(|s| (s + shift) * size).collect::<Vec<_>>())
    })
}

proptest! {
    #[test]
    fn a_higher_score_is_never_more_common(tail in any_tail(), a in -20.0..40.0, b in -20.0..40.0) {
        // In units of the tail, so that body and tail are both met.
        let spread = (tail.threshold - tail.body[0]).max(tail.scale);
        let at = |x: f64| tail.threshold + x / 10.0 * spread;
        let (low, high) = (at(f64::min(a, b)), at(f64::max(a, b)));
        prop_assert!(tail.probability(low) >= tail.probability(high));
        prop_assert!(tail.log10(low) <= tail.log10(high));
        prop_assert!(tail.probability(high) > 0.0 && tail.probability(low) <= 1.0);
        prop_assert!(tail.log10(high).is_finite() && tail.log10(low) >= 0.0);
    }

    #[test]
    fn score_at_is_the_inverse(tail in any_tail(), log10 in 0.0..40.0) {
        let score = tail.score_at_log10(log10);
        // At a tie the probability jumps over some values; around the score it must still enclose them.
        let step = score.abs().max(tail.scale).max(tail.threshold.abs()) * 1e-6;
        prop_assert!(tail.log10(score - step) <= log10 + 1e-6 && log10 <= tail.log10(score + step) + 1e-6,
            "{log10} -> {score} -> {} .. {}", tail.log10(score - step), tail.log10(score + step));
    }

    #[test]
    fn body_and_tail_meet(tail in any_tail()) {
        let above = tail.threshold + tail.scale * 1e-7;
        let tied = tail.largest.last().is_some_and(|l| *l <= above);
        prop_assert!(tied || (tail.probability(above) / tail.exceed - 1.0).abs() < 1e-3);
        if tail.body.last().is_some_and(|last| *last < tail.threshold) {
            prop_assert!((tail.probability(tail.threshold) / tail.exceed - 1.0).abs() < 1e-9);
        }
    }

    #[test]
    fn any_scores_make_a_sane_tail(scores in prop::collection::vec(any::<f64>(), 100..300), probe in any::<f64>()) {
        if let Ok(tail) = Tail::fit(&scores, 1.0) {
            tail.check().map_err(|e| TestCaseError::fail(e.to_string()))?;
            prop_assert!(probe.is_nan() || tail.log10(probe).is_finite());
            prop_assert!(tail.score_at(1e-9).is_finite());
        }
    }
}
