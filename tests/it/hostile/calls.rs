//! Loops, traps, exits and errors, in every function that a plugin exports.

use super::*;
use crate::plugin_faults::metered;
use kaminari::plugin::Health;
use serde_json::json;

/// In each call about data, on the second instance too; `said` is in the message.
fn every_call(what: &str, outcome: &str, said: &str) {
    for (role, call) in WORK {
        metered(|metrics| {
            let mut used = Used::new(&tight("hostile"), role, &does(what, call)).unwrap();
            let (reason, text) = used.fails();
            assert_eq!(reason, outcome, "{what} in {call}: {text}");
            assert!(text.starts_with(&format!("plugin hostile@0.1.0: `{call}` ")), "{text}");
            assert!(text.contains(said), "{said:?} in {text}");
            let count = |name: &str, labels: &str| counted(metrics, "hostile", name, labels);
            assert_eq!(count("calls_total", &format!(",outcome=\"{outcome}\"")), 2.0, "once, and on a fresh instance");
            assert_eq!(count("restarts_total", ""), 1.0);
            assert_eq!(count("dead_lettered_rows_total", &format!(",reason=\"{outcome}\"")), ROWS as f64);
            assert_eq!(count("state", ",state=\"backoff\""), 1.0);
            assert_eq!(count("state", ",state=\"running\""), 0.0);
            let status = used.status();
            assert_eq!((status.health().1, status.faults.load(Ordering::Relaxed)), (Some(text), 1));
            drop((used, status));
            assert_eq!(count("state", ",state=\"backoff\""), 0.0, "its use has ended");
        });
    }
    others_go_on();
}

#[test]
fn endless_loops_are_stopped_at_the_deadline() {
    every_call("loop", "deadline", "missed its deadline of 200 ms (`limits.deadline_ms`)");
}

#[test]
fn memory_bombs_hit_the_cap() {
    every_call("memory", "oom", "its cap is 33554432 (`limits.memory_bytes`)");
}

/// In the part of it that lies in memory; the other one is in `bombs`.
#[test]
fn stack_bombs_are_traps() {
    every_call("stack", "trap", "trapped: wasm trap: ");
}

#[test]
fn panics_say_their_text() {
    every_call("trap", "trap", "as the fixture was told, in ");
}

#[test]
fn exits_are_traps() {
    every_call("exit", "trap", "trapped: ");
}

#[test]
fn sleep_is_refused() {
    every_call("sleep", "trap", "must not sleep");
}

#[test]
fn errors_cost_their_batch_and_not_the_instance() {
    for (role, call) in WORK {
        metered(|metrics| {
            let mut used = Used::new(&tight("hostile"), role, &does("error", call)).unwrap();
            let (reason, text) = used.fails();
            assert_eq!(reason, "error");
            assert!(text.starts_with(&format!("plugin hostile@0.1.0: `{call}` answered: a long error")), "{text}");
            assert!(text.len() < 4096 && !text.contains(char::is_control), "cut, and in one line: {}", text.len());
            assert_eq!(counted(metrics, "hostile", "calls_total", ",outcome=\"error\""), 1.0, "not tried again");
            assert_eq!(counted(metrics, "hostile", "restarts_total", ""), 0.0);
            assert_eq!(used.status().health(), (Health::Running, Some(text)));

            let mut used = Used::new(&tight("hostile"), role, &does("retry", call)).unwrap();
            assert_eq!(used.fails().0, "error");
            assert_eq!(counted(metrics, "hostile", "calls_total", ",outcome=\"error\""), 3.0, "tried once more");
        });
    }
}

/// Before the first record: refused, with the call that did not come back.
#[test]
fn what_hangs_or_breaks_while_it_is_set_up_is_refused() {
    let cases = [
        (Role::Detector, "configure", "configure"),
        (Role::SourceDecoder, "source-schema", "output-schema"),
        (Role::SourceDecoder, "time-column", "time-column"),
        (Role::FeatureExtractor, "feature-schema", "output-schema"),
        (Role::Detector, "requires", "requires"),
    ];
    // At once: each takes its five seconds.
    std::thread::scope(|scope| {
        for (role, call, named) in cases {
            scope.spawn(move || {
                for (what, said) in
                    [("loop", "missed its deadline of 5000 ms"), ("trap", "trapped: "), ("memory", "ran out")]
                {
                    let refused = Used::new(&tight("hostile"), role, &does(what, call)).err().expect(call).to_string();
                    let expected = format!("plugin hostile@0.1.0: `{named}` {said}");
                    assert!(refused.starts_with(&expected), "{expected:?} in {refused}");
                }
            });
        }
    });
    let refused = Used::new(&tight("hostile"), Role::Detector, &does("config", "configure")).err().unwrap();
    assert!(refused.to_string().contains("bad config at `misbehave`"), "{refused}");
    others_go_on();
}

#[test]
fn what_hangs_when_it_is_asked_for_its_state_is_asked_thrice() {
    metered(|metrics| {
        let mut used = Used::new(&tight("hostile"), Role::Detector, &does("loop", "snapshot")).unwrap();
        for fault in 1..=3 {
            assert_eq!(used.judges().scores.len(), ROWS);
            assert!(used.guarded.save().is_none(), "nothing is saved");
            let status = used.status();
            assert_eq!(status.faults.load(Ordering::Relaxed), fault);
            let text = status.health().1.unwrap();
            assert_eq!(text, "plugin hostile@0.1.0: `snapshot` missed its deadline of 1000 ms");
        }
        assert_eq!(used.judges().scores.len(), ROWS);
        assert!(used.guarded.save().is_none());
        assert_eq!(used.status().faults.load(Ordering::Relaxed), 3, "not asked again");
        assert_eq!(counted(metrics, "hostile", "restarts_total", ""), 3.0);
    });
}

#[test]
fn what_hangs_or_breaks_over_saved_state_begins_anew() {
    let saved = Used::new(&tight("hostile"), Role::Detector, &json!({})).unwrap().guarded.save().unwrap();
    for (what, said) in
        [("loop", "missed its deadline of 5000 ms"), ("trap", "trapped: "), ("memory", "ran out of memory")]
    {
        let mut used = Used::new(&tight("hostile"), Role::Detector, &does(what, "restore")).unwrap();
        let why = used.guarded.restore(&saved).unwrap_err().to_string();
        assert!(why.starts_with(&format!("plugin hostile@0.1.0: `restore` {said}")), "{why}");
        assert_eq!(used.judges().scores.len(), ROWS, "a fresh one answers");
    }
    // Saved by another version, or none of its making.
    let mut used = Used::new(&tight("hostile"), Role::Detector, &json!({})).unwrap();
    for rubbish in
        [&saved[..saved.len() / 2], b"", b"{}\n", b"{\"plugin\":\"hostile\",\"state_version\":2}\n\xff\xff\xff"]
    {
        assert!(used.guarded.restore(rubbish).is_err());
        assert_eq!(used.judges().scores.len(), ROWS);
    }
}

/// Traps at calls that a seed chooses: what is answered is right, and all else is counted.
#[test]
fn traps_by_chance_are_all_accounted_for() {
    for seed in 0..8 {
        metered(|metrics| {
            let config = json!({ "misbehave": "random", "in": "detect", "seed": seed, "one_of": 4 });
            let mut used = Used::new(&tight("hostile"), Role::Detector, &config).unwrap();
            let (mut judged, mut lost) = (0, 0);
            for _ in 0..200 {
                match used.call() {
                    Ok(Answer::Verdict(verdict)) => {
                        assert_eq!(verdict.scores, [1.0, 2.0, 3.0]);
                        judged += 1;
                    }
                    Ok(_) => panic!("no detector"),
                    Err(_) => lost += 1,
                }
            }
            let all: f64 = ["trap", "backoff", "quarantine"]
                .map(|why| counted(metrics, "hostile", "dead_lettered_rows_total", &format!(",reason=\"{why}\"")))
                .iter()
                .sum();
            assert_eq!((judged + lost, all), (200, (lost * ROWS) as f64), "seed {seed}");
            assert_eq!(counted(metrics, "hostile", "calls_total", ",outcome=\"ok\""), judged as f64);
        });
    }
}
