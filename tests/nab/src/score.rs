//! NAB's scorer. Comes in: scores per row, labelled windows; goes out: the best score that one threshold over all series
//! reaches, from 0 (says nothing) to 100 (finds every window at its first row and nothing else). A window that is found
//! earns by how early it was (a sigmoid), its other detections nothing; a false alarm costs by how far behind a window
//! it is; a window that is missed costs. The first 15 % of a series (750 rows at most) are not scored.

use crate::data::Series;

/// What is wanted of a detector.
#[derive(Clone, Copy, Debug)]
pub struct Profile {
    /// What it is called in tables.
    pub name: &'static str,
    /// Weight of a window that is found.
    pub found: f64,
    /// Weight of a false alarm.
    pub false_alarm: f64,
    /// Weight of a window that is missed.
    pub missed: f64,
}

/// NAB's three.
pub const PROFILES: [Profile; 3] = [
    Profile { name: "standard", found: 1.0, false_alarm: 0.11, missed: 1.0 },
    Profile { name: "low FP", found: 1.0, false_alarm: 0.22, missed: 1.0 },
    Profile { name: "low FN", found: 1.0, false_alarm: 0.11, missed: 2.0 },
];

/// The best that one threshold reaches.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Best {
    /// From 100 (perfect) over 0 (says nothing) down.
    pub score: f64,
    /// Rows with at least this score are detections. Infinite: it is best to say nothing.
    pub threshold: f64,
    /// Windows found, of how many, and false alarms.
    pub found: usize,
    pub windows: usize,
    pub false_alarms: usize,
}

/// A row as the scorer sees it.
#[derive(Clone, Copy)]
struct Place {
    /// Which window of all series it is in.
    window: Option<usize>,
    /// What a detection here is worth before weights: up to 1 in a window, down to -1 outside.
    worth: f64,
}

/// Rows of a series that are not scored.
pub fn probation(rows: usize) -> usize {
    (rows * 15 / 100).min(750)
}

/// The best score over all thresholds. A row without a score counts as 0: `scores` are NaN there.
pub fn best(series: &[Series], scores: &[Vec<f64>], profile: &Profile) -> Best {
    let mut rows: Vec<(f64, Place)> = Vec::new();
    let mut windows = 0;
    for (series, scores) in series.iter().zip(scores) {
        let places = places(series, windows);
        windows += series.windows.len();
        let rated = scores.iter().map(|s| if s.is_nan() { 0.0 } else { *s });
        rows.extend(rated.zip(places).skip(probation(series.times.len())));
    }
    rows.sort_by(|a, b| b.0.total_cmp(&a.0));

    let nothing = -profile.missed * windows as f64;
    let perfect = profile.found * windows as f64;
    let share = |sum: f64| 100.0 * (sum - nothing) / (perfect - nothing);
    let mut best = Best { score: 0.0, threshold: f64::INFINITY, found: 0, windows, false_alarms: 0 };
    let (mut sum, mut false_alarms, mut earned) = (nothing, 0, vec![None::<f64>; windows]);
    // Rows of one score are detections together.
    for alike in rows.chunk_by(|a, b| a.0 == b.0) {
        for (_, place) in alike {
            match place.window {
                None => {
                    sum += profile.false_alarm * place.worth;
                    false_alarms += 1;
                }
                Some(w) => {
                    let worth = profile.found * place.worth;
                    let before = earned[w].unwrap_or(-profile.missed);
                    if worth > before {
                        sum += worth - before;
                        earned[w] = Some(worth);
                    }
                }
            }
        }
        if share(sum) > best.score {
            let found = earned.iter().flatten().count();
            best = Best { score: share(sum), threshold: alike[0].0, found, windows, false_alarms };
        }
    }
    best
}

/// Every row's place; `first` is the number of the first window of the series.
fn places(series: &Series, first: usize) -> Vec<Place> {
    let mut places = Vec::with_capacity(series.times.len());
    let mut windows = series.windows.iter().enumerate().peekable();
    // Last row and width of the last window gone by.
    let mut behind: Option<(usize, f64)> = None;
    for row in 0..series.times.len() {
        let place = match windows.peek() {
            Some((i, (from, to))) if (*from..=*to).contains(&row) => {
                let width = (to - from + 1) as f64;
                let position = -((to - row + 1) as f64) / width;
                if row == *to {
                    behind = Some((row, width));
                }
                Place { window: Some(first + i), worth: sigmoid(position) / sigmoid(-1.0) }
            }
            _ => {
                let worth = behind.map_or(-1.0, |(end, width)| sigmoid((row - end) as f64 / (width - 1.0)));
                Place { window: None, worth }
            }
        };
        windows.next_if(|(_, (_, to))| *to == row);
        places.push(place);
    }
    places
}

/// NAB's scaled sigmoid: -1 is the first row of a window, 0 its end, 3 far behind it.
fn sigmoid(position: f64) -> f64 {
    if position > 3.0 { -1.0 } else { 2.0 / (1.0 + (5.0 * position).exp()) - 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1000 rows, so that 150 are probation; a window of 100 rows.
    fn series() -> Series {
        let times = (0..1000).map(|i| i * 300).collect();
        Series { name: "x".into(), file: "x".into(), times, windows: vec![(400, 499)] }
    }

    fn scored(rows: &[usize], profile: usize) -> f64 {
        let mut scores = vec![0.0; 1000];
        rows.iter().for_each(|row| scores[*row] = 1.0);
        best(&[series()], &[scores], &PROFILES[profile]).score
    }

    #[test]
    fn early_is_worth_more_than_late_and_only_the_first_counts() {
        assert!((scored(&[400], 0) - 100.0).abs() < 1e-9, "perfect");
        let (early, late) = (scored(&[420], 0), scored(&[490], 0));
        assert!(early > 95.0 && early < 100.0 && late > 50.0 && late < early, "{early} {late}");
        assert_eq!(scored(&[420, 430, 490], 0), early);
        // By hand: position -0.1 is 2 / (1 + e^-0.5) - 1 = 0.244919; the first row is 0.986614.
        assert!((scored(&[490], 0) - 100.0 * (1.0 + 0.244_919 / 0.986_614) / 2.0).abs() < 0.3, "{late}");
    }

    #[test]
    fn false_alarms_cost_by_weight_and_by_how_far_they_are_from_a_window() {
        let cost = |row: usize, profile: usize| scored(&[400], profile) - scored(&[400, row], profile);
        assert!((cost(200, 0) - 5.5).abs() < 1e-9, "0.11 of 2: {}", cost(200, 0));
        assert!((cost(200, 1) - 11.0).abs() < 1e-9);
        assert!((cost(200, 2) - 100.0 * 0.11 / 3.0).abs() < 1e-9);
        assert!(cost(510, 0) < cost(560, 0) && cost(560, 0) < cost(900, 0));
        assert!((cost(900, 0) - 5.5).abs() < 1e-9, "far behind");
    }

    #[test]
    fn probation_is_not_scored_and_saying_nothing_is_0() {
        assert_eq!((probation(1000), probation(22_695)), (150, 750));
        assert_eq!(scored(&[400, 10, 149], 0), scored(&[400], 0));
        assert!(scored(&[400, 150], 0) < scored(&[400], 0));
        let nothing = best(&[series()], &[vec![0.0; 1000]], &PROFILES[0]);
        assert_eq!((nothing.score, nothing.threshold, nothing.found), (0.0, f64::INFINITY, 0));
    }

    #[test]
    fn one_threshold_serves_all_series_and_no_score_counts_as_0() {
        let mut first = vec![0.0; 1000];
        let mut second = vec![f64::NAN; 1000];
        first[400] = 1.0;
        (first[700], second[400]) = (0.5, 0.4);
        let found = best(&[series(), series()], &[first.clone(), second.clone()], &PROFILES[0]);
        assert_eq!((found.threshold, found.found, found.windows, found.false_alarms), (0.4, 2, 2, 1));
        (600..640).for_each(|row| first[row] = 0.45);
        let dear = best(&[series(), series()], &[first, second], &PROFILES[0]);
        assert_eq!((dear.threshold, dear.found), (1.0, 1), "not worth 41 false alarms");
    }
}
