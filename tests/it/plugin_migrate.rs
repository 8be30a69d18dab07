//! A plugin's successor goes on with what it knew: as it is, migrated, or not at all and with the reason. Fixtures `tally-N`: one
//! plugin in versions, N being that of its state.

use crate::plugin_faults::{metered, sample};
use crate::plugin_files::{frame, host, plan};
use kaminari::model::FrameBatch;
use kaminari::model::Handover;
use kaminari::model::frames::NO_PEER;
use kaminari::plugin::{CallError, CallErrorKind, Guarded, NotRestored, PluginError, Restored, Role, Use};
use serde_json::{Value, json};

fn new(file: &str, config: &Value) -> Result<Guarded, PluginError> {
    let of = Use { role: Role::Detector, pipeline: "p".into(), user: "d".into(), config: config.to_string() };
    Guarded::new(host().load(&plan(file))?, of)
}

fn plugin(file: &str) -> Guarded {
    new(file, &json!({})).unwrap()
}

/// Judges two hosts once more.
fn scores(it: &mut Guarded) -> Vec<f64> {
    let frame = frame(&[("flows", &[1.0, 1.0])]);
    it.call(&|| "a test".into(), &mut |i| i.detect(&frame.window, frame.batch.clone())).unwrap().scores
}

/// What the plugin of this file has saved after so many calls.
fn saved(file: &str, calls: usize) -> Vec<u8> {
    let mut it = plugin(file);
    (0..calls).for_each(|_| drop(scores(&mut it)));
    it.save().unwrap()
}

/// With another header, and the plugin's own bytes changed.
fn rewritten(saved: &[u8], header: (&str, &str), own: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let end = saved.iter().position(|b| *b == b'\n').unwrap();
    let text = std::str::from_utf8(&saved[..end]).unwrap();
    assert!(text.contains(header.0), "{text}");
    let mut bytes = saved[end..].to_vec();
    own(&mut bytes);
    [text.replace(header.0, header.1).into_bytes(), bytes].concat()
}

/// Its next call ends the instance; the fresh one that is asked again answers.
fn scores_after_a_trap(it: &mut Guarded) -> Vec<f64> {
    let frame = frame(&[("flows", &[1.0, 1.0])]);
    let mut calls = 0;
    let mut call = |i: &mut kaminari::plugin::PluginInstance| {
        calls += 1;
        match calls {
            1 => {
                let kind = CallErrorKind::Trap { message: "as the test wants it".into() };
                Err(CallError { plugin: "tally".into(), call: "detect", kind })
            }
            _ => i.detect(&frame.window, frame.batch.clone()),
        }
    };
    it.call(&|| "a test".into(), &mut call).unwrap().scores
}

#[test]
fn the_same_version_goes_on_with_it_as_it_is() {
    for file in ["tally-1", "tally-2", "tally-3"] {
        let mut next = plugin(file);
        assert_eq!(next.restore(&saved(file, 2)).unwrap(), Restored::AsItIs, "{file}");
        assert_eq!(scores(&mut next), [3.0, 3.0], "{file}");
    }
}

#[test]
fn a_later_version_migrates_and_its_fresh_instances_do_not_again() {
    let before = saved("tally-1", 2);
    let mut next = plugin("tally-2");
    assert_eq!(next.restore(&before).unwrap(), Restored::Migrated { from: 1, to: 2 });
    assert_eq!(scores_after_a_trap(&mut next), [3.0, 3.0]);
    let after = next.save().unwrap();
    assert!(String::from_utf8_lossy(&after).starts_with("{\"plugin\":\"tally\",\"state_version\":2,"));
    let mut third = plugin("tally-2");
    assert_eq!(third.restore(&after).unwrap(), Restored::AsItIs);
    assert_eq!(scores(&mut third), [4.0, 4.0]);

    // What a migration was given and could not read is no state of this plugin.
    let short = rewritten(&before, (":1,", ":1,"), |own| own.truncate(own.len() - 1));
    let mut next = plugin("tally-2");
    let error = next.restore(&short).unwrap_err();
    assert!(
        matches!(&error, NotRestored::Version { from: 1, to: 2, cause, .. } if cause.call == "migrate"),
        "{error:?}"
    );
    assert_eq!(scores(&mut next), [1.0, 1.0]);
}

#[test]
fn a_version_that_cannot_be_read_is_told_and_the_successor_begins_anew() {
    for (old, new, versions) in
        [("tally-1", "tally-3", (1, 3)), ("tally-2", "tally-3", (2, 3)), ("tally-2", "tally-1", (2, 1))]
    {
        let mut next = plugin(new);
        let error = next.restore(&saved(old, 2)).unwrap_err();
        assert!(matches!(error, NotRestored::Version { from, to, .. } if (from, to) == versions), "{error:?}");
        assert_eq!(
            error.to_string(),
            format!(
                "it has version {0} of the state, and tally@{1}.0.0 wants {1}: plugin tally@{1}.0.0: `restore` answered: \
                 state of version {0} cannot be read",
                versions.0, versions.1
            )
        );
        assert_eq!(scores(&mut next), [1.0, 1.0]);
    }
}

#[test]
fn what_would_be_forgotten_or_is_anothers_is_no_state_of_it() {
    let before = saved("tally-1", 2);
    let mut plain = new("spin", &json!({ "poison": -1.0 })).unwrap();
    let error = plain.restore(&before).unwrap_err();
    assert!(matches!(&error, NotRestored::Another { of } if of == "tally"), "{error:?}");
    assert_eq!(error.to_string(), "it is that of the plugin \"tally\"");

    let own = rewritten(&before, ("\"tally\"", "\"spin\""), |_| {});
    let error = plain.restore(&own).unwrap_err();
    assert!(matches!(error, NotRestored::SavesNone { from: 1, .. }), "{error:?}");
    assert!(error.to_string().contains("spin@0.1.0 saves none"), "{error}");
    assert_eq!(scores(&mut plain), [0.0, 0.0], "it judges all the same");
    let nothing = rewritten(&own, ("spin", "spin"), |own| own.truncate(1));
    assert_eq!(plain.restore(&nothing).unwrap(), Restored::AsItIs);

    // Buckets that are none: the plugin's own part is not taken alone.
    let mut next = plugin("tally-1");
    let error =
        next.restore(&rewritten(&before, ("\"buckets\":0", "\"buckets\":3"), |own| own.extend(b"???"))).unwrap_err();
    assert!(matches!(error, NotRestored::Damaged(_)), "{error:?}");
    assert_eq!(scores(&mut next), [1.0, 1.0]);
    let error = next.restore(b"").unwrap_err();
    assert_eq!(error.to_string(), "it has no header");
}

#[test]
fn what_its_own_version_refuses_is_no_other_version() {
    let short = rewritten(&saved("tally-2", 1), (":2,", ":2,"), |own| own.truncate(own.len() - 1));
    let error = plugin("tally-2").restore(&short).unwrap_err();
    assert!(matches!(error, NotRestored::Refused(_)), "{error:?}");
}

#[test]
fn an_instance_that_breaks_over_it_leaves_one_that_begins_anew() {
    let before = saved("tally-1", 2);
    for (file, function) in [("tally-1", "restore"), ("tally-2", "migrate"), ("tally-2", "restore")] {
        let mut next = new(file, &json!({ "trap_in": function })).unwrap();
        let error = next.restore(&before).unwrap_err();
        assert!(matches!(error, NotRestored::Broken(_)), "{file} {function}: {error:?}");
        let text = error.to_string();
        let begins = format!("plugin tally@{}.0.0: `{function}` trapped: ", &file[6..]);
        assert!(text.starts_with(&begins) && text.contains("as the fixture was told"), "{text}");
        assert_eq!(scores(&mut next), [1.0, 1.0]);
        assert!(next.restore(&before).is_err(), "again: asked on a fresh instance");
    }
    assert!(new("tally-broken", &json!({})).err().unwrap().to_string().contains("cannot be configured"));
}

#[test]
fn each_role_of_a_plugin_migrates_its_own_part() {
    let lines = |it: &mut Guarded| -> u64 {
        let mut frames = FrameBatch::default();
        frames.push(b"x", NO_PEER, 7_000_000_000);
        let rows = it.ask(|i| {
            let output = i.source_output()?;
            i.decode(&frames, &frames.frames.clone(), "s", &output)
        });
        let rows = rows.unwrap().rows.unwrap();
        let column = rows.column(1).clone();
        let column: &arrow_array::UInt64Array = arrow_array::cast::AsArray::as_primitive(&column);
        column.value(0)
    };
    let mut old = plugin("duet-1");
    for _ in 0..2 {
        scores(&mut old);
    }
    assert_eq!([lines(&mut old), lines(&mut old), lines(&mut old)], [0, 1, 2]);
    let before = old.save().unwrap();
    // The source's state is of version 1 in both, the detector's of 1 and 2: the host sees the sum.
    let mut next = plugin("duet-2");
    assert_eq!(next.restore(&before).unwrap(), Restored::Migrated { from: 2, to: 3 });
    assert_eq!((scores(&mut next), lines(&mut next)), (vec![3.0, 3.0], 3));
    // The same sum, made of other parts: the host sees no other version, the plugin does.
    let mut next = plugin("duet-2");
    let same_sum = rewritten(&before, (":2,", ":3,"), |_| {});
    assert_eq!(next.restore(&same_sum).unwrap(), Restored::AsItIs);
    assert_eq!((scores(&mut next), lines(&mut next)), (vec![3.0, 3.0], 3));
    // Back again there is no way, for the detector.
    let mut back = plugin("duet-1");
    let error = back.restore(&next.save().unwrap()).unwrap_err();
    assert!(matches!(error, NotRestored::Version { from: 3, to: 2, .. }), "{error:?}");
    assert_eq!(scores(&mut back), [1.0, 1.0]);
}

#[test]
fn plugins_of_older_contracts_are_asked_as_before() {
    for (file, contract) in [("old-api", "0.1.0"), ("old-api-1", "0.1.1")] {
        let mut it = plugin(file);
        assert_eq!(it.plugin().info().api_version, contract);
        let before = it.save().unwrap();
        assert_eq!(plugin(file).restore(&before).unwrap(), Restored::AsItIs);
        // It reads any version, and has no migration.
        let other = |bytes: &'static [u8]| rewritten(&before, (":1,", ":7,"), |own| *own = [b"\n", bytes].concat());
        assert_eq!(it.restore(&other(b"old")).unwrap(), Restored::AsItIs);
        let error = it.restore(&other(b"new")).unwrap_err();
        assert!(matches!(error, NotRestored::Version { from: 7, to: 1, .. }), "{error:?}");
        assert_eq!(scores(&mut it), [1.0, 1.0]);
    }
}

#[test]
fn hand_overs_are_counted_by_what_came_of_them() {
    metered(|metrics| {
        let mut next = plugin("tally-2");
        next.count_handover(Handover::Reset);
        let restored = next.restore(&saved("tally-1", 1)).unwrap();
        next.count_handover(restored.into());
        next.count_handover(Handover::Refused);
        let count = |outcome: &str| {
            let labels = format!("plugin=\"tally-2\",pipeline=\"p\",outcome=\"{outcome}\"");
            sample(metrics, &format!("kaminari_plugin_state_handovers_total{{{labels}}}"))
        };
        assert_eq!(["reset", "migrated", "refused"].map(count), [1.0; 3]);
        assert!(!metrics.render().contains("outcome=\"restored\""), "a start is no hand-over");
    });
}
