//! What would take the host's memory: tables, memories, lists that are all one piece of memory, answers without end. Components
//! from text where no compiler would make them: that of `kaminari plugin bench` with a few words changed.

use super::*;
use kaminari::plugin::CallErrorKind;

const EMPTY: &str = include_str!("../../../host/templates/plugin/empty.wat");

/// The empty detector, changed.
pub fn component(dir: &std::path::Path, name: &str, changes: &[(&str, &str)]) -> PluginPlan {
    let mut text = EMPTY.to_owned();
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    let path = dir.join(format!("{name}.wasm"));
    std::fs::write(&path, wat::parse_str(&text).unwrap_or_else(|e| panic!("{name}: {e}"))).unwrap();
    PluginPlan { id: name.into(), path, ..tight("hostile") }
}

const DETECT: &str = "(call $drop (local.get 5))\n      (i32.const 0))";

#[test]
fn a_table_grows_to_its_bound() {
    let dir = tempfile::tempdir().unwrap();
    // Grows while it may; more than the bound would be a trap.
    let grow = "(call $drop (local.get 5))
      (loop $more (br_if $more (i32.ne (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1))))
      (if (i32.gt_u (table.size $t) (i32.const 100000)) (then unreachable))
      (if (i32.lt_u (table.size $t) (i32.const 90000)) (then unreachable))
      (i32.const 0))";
    let plan =
        component(dir.path(), "table", &[(DETECT, grow), ("(global $free", "(table $t 1 funcref)\n (global $free")]);
    Used::new(&plan, Role::Detector, &serde_json::json!({})).unwrap().judges();

    let plan = component(dir.path(), "large", &[("(global $free", "(table 1000000 funcref)\n (global $free")]);
    let text = host().load(&plan).err().expect("refused").to_string();
    assert!(text.starts_with("plugin large: `describe` trapped: ") && text.contains("table"), "{text}");

    let tables = "(table 1 funcref)\n".repeat(100) + "(global $free";
    let plan = component(dir.path(), "many", &[("(global $free", &tables)]);
    assert!(host().load(&plan).is_err());
}

#[test]
fn recursion_ends_with_the_stack() {
    let dir = tempfile::tempdir().unwrap();
    let deep =
        "(func $deep (param i64) (result i64) (i64.add (call $deep (local.get 0)) (i64.const 1)))\n (global $free";
    let call = "(call $drop (local.get 5)) (drop (call $deep (i64.const 0))) (i32.const 0))";
    let plan = component(dir.path(), "deep", &[(DETECT, call), ("(global $free", deep)]);
    let mut used = Used::new(&plan, Role::Detector, &serde_json::json!({})).unwrap();
    let (reason, text) = used.fails();
    assert_eq!((reason, &*text), ("trap", "plugin empty@0.1.0: `detect` trapped: wasm trap: call stack exhausted"));
}

#[test]
fn memories_are_capped_before_they_are_there() {
    let dir = tempfile::tempdir().unwrap();
    let plan =
        component(dir.path(), "large", &[("(memory (export \"memory\") 2)", "(memory (export \"memory\") 60000)")]);
    let text = host().load(&plan).err().expect("refused").to_string();
    assert!(text.contains("ran out of memory") && text.contains("`limits.memory_bytes`"), "{text}");
    let two = "(memory (export \"memory\") 300) (memory 300)";
    let plan = component(dir.path(), "two", &[("(memory (export \"memory\") 2)", two)]);
    assert!(host().load(&plan).err().expect("together").to_string().contains("ran out of memory"));
    // Memory that threads share would be under no limit.
    let shared = "(memory (export \"memory\") 2 65536 shared)";
    let plan = component(dir.path(), "shared", &[("(memory (export \"memory\") 2)", shared)]);
    assert!(host().load(&plan).is_err());
}

#[test]
fn what_runs_before_it_is_asked_has_a_deadline_too() {
    let dir = tempfile::tempdir().unwrap();
    let start = "(func $s (loop $l (br $l))) (start $s)\n (global $free";
    let plan = component(dir.path(), "start", &[("(global $free", start)]);
    let text = host().load(&plan).err().expect("refused").to_string();
    assert_eq!(text, "plugin start: `describe` missed its deadline of 5000 ms");
}

#[test]
fn lists_that_lie_about_their_length_are_traps() {
    let dir = tempfile::tempdir().unwrap();
    // ok, and 2^28 scores or alerts from address 0.
    for (name, at) in [("scores", 3080), ("alerts", 3088)] {
        let lie = format!(
            "(call $drop (local.get 5)) (i32.store (i32.const {}) (i32.const 268435456)) (i32.const 3072))",
            at
        );
        let plan = component(dir.path(), name, &[(DETECT, &lie)]);
        let mut used = Used::new(&plan, Role::Detector, &serde_json::json!({})).unwrap();
        let (reason, text) = used.fails();
        assert_eq!(reason, "trap", "{text}");
        assert!(text.starts_with("plugin empty@0.1.0: `detect` trapped: "), "{text}");
    }
    let mut used = Used::new(&tight("hostile"), Role::Detector, &does("huge-scores", "detect")).unwrap();
    assert_eq!(used.fails().0, "trap");
}

/// Thousands of texts that are one: the guest's memory is small, what the host would copy is 4 GiB.
#[test]
fn texts_that_are_one_piece_of_memory_are_not_copied_without_end() {
    for (role, what, call) in
        [(Role::SourceDecoder, "long-reasons", "decode"), (Role::Detector, "alike-alerts", "detect")]
    {
        let before = resident();
        let mut used = Used::new(&tight("hostile"), role, &does(what, call)).unwrap();
        let (reason, text) = used.fails();
        assert_eq!(reason, "trap", "{text}");
        assert!(text.contains("fuel"), "{text}");
        let grown = resident().saturating_sub(before);
        assert!(grown < 2 << 30, "{what}: the process grew by {grown} bytes");
    }
}

/// Bytes that this process has had at most.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let kib = text.lines().find_map(|l| l.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.trim().parse().ok());
    kib.map_or(0, |kib: usize| kib << 10)
}

#[test]
fn what_a_plugin_says_of_itself_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let whole = std::fs::read(kaminari_tests::plugin("hostile-raw")).unwrap();
    let at = whole.windows(12).position(|w| w == b"TOLD:nothing").expect("the fixture's marker");
    let told = |what: &str| {
        let mut bytes = whole.clone();
        bytes[at + 5..at + 24].copy_from_slice(format!("{what:.<19}").as_bytes());
        let path = dir.path().join(format!("{what}.wasm"));
        std::fs::write(&path, bytes).unwrap();
        host().load(&PluginPlan { path, ..tight("hostile-raw") })
    };
    let refused = |what: &str, said: &str| {
        let text = told(what).err().unwrap_or_else(|| panic!("{what} was taken")).to_string();
        assert!(text.contains(said) && text.contains("hostile-raw") && text.len() < 1000, "{what}: {text}");
    };
    refused("loop", "`describe` missed its deadline of 5000 ms");
    refused("trap", "`describe` trapped: ");
    refused("memory", "`describe` ran out of memory");
    refused("long-name", "says that its name is \"xxx");
    refused("no-name", "says that its name is \"\"");
    refused("lines", "says that its version is \"1 2026 ERROR forged\"");
    refused("long-schema", "has a config schema of more than");
    assert!(told("long-description").unwrap().info().description.len() <= 1024);
    assert_eq!(told("nothing").unwrap().info().name, "hostile-raw");
}

#[test]
fn the_kind_of_a_fault_is_told_apart() {
    let plugin = host().load(&tight("hostile")).unwrap();
    let mut instance = plugin.instantiate("p", &does("memory", "detect").to_string()).unwrap();
    let frame = frame(&[("sum", &[1.0])]);
    let error = instance.detect(&frame.window, frame.batch).unwrap_err();
    let CallErrorKind::OutOfMemory { cap, .. } = error.kind else { panic!("{error}") };
    assert!(instance.memory_bytes() <= cap && cap == 32 << 20);
}
