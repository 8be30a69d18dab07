//! Spans of mistakes deep inside arrays and inline tables, and the words they are told in.

use super::super::tests::complaints;
use super::*;

fn source(lines: &str) -> String {
    format!("[sources.edge]\ntype = \"udp\"\n{lines}\n")
}

/// Complaints about the source only: the text has no pipeline.
fn marked(lines: &str) -> Vec<(String, usize, usize, String)> {
    complaints(&source(lines)).into_iter().filter(|c| c.0 != "no_pipeline").collect()
}

fn entry(code: &str, line: usize, column: usize, text: &str) -> (String, usize, usize, String) {
    (code.to_owned(), line, column, text.to_owned())
}

#[test]
fn spans_are_exact_inside_arrays_and_inline_tables() {
    assert_eq!(marked("listen = 2055"), [entry("wrong_type", 3, 10, "2055")]);
    assert_eq!(marked("listen = \"1.2.3.4\""), [entry("bad_value", 3, 10, "\"1.2.3.4\"")]);
    let listen = "listen = \"127.0.0.1:1\"\n";
    assert_eq!(marked(&format!("{listen}workers = 300")), [entry("bad_value", 4, 11, "300")]);
    assert_eq!(
        marked(&format!("{listen}exporters = [\"192.0.2.1\", 5, \"x\"]")),
        [entry("wrong_type", 4, 27, "5"), entry("bad_value", 4, 30, "\"x\"")]
    );
    assert_eq!(
        marked(&format!(
            "{listen}sampling = [ {{ exporter = \"192.0.2.1\", rate = \"many\" }}, {{ exportr = \"::1\", rate = 1 }} ]"
        )),
        [entry("wrong_type", 4, 47, "\"many\""), entry("unknown_key", 4, 59, "exportr"),]
    );
    let tables = format!("{listen}[[sources.edge.sampling]]\nexporter = \"::1\"\nrate = -1\n");
    assert_eq!(marked(&tables), [entry("bad_value", 6, 8, "-1")]);
}

#[test]
fn what_follows_from_a_mistake_is_not_told() {
    // `listen` has the wrong type; that it is now "missing" is no news.
    assert_eq!(marked("listen = 5\nwokers = 1").len(), 2);
    assert_eq!(marked("listne = \"127.0.0.1:1\""), [entry("unknown_key", 3, 1, "listne")]);
    assert_eq!(marked("workers = 1"), [entry("missing_key", 1, 1, "[sources.edge]")]);
}

#[test]
fn columns_count_characters() {
    assert_eq!(marked("listen = \"127.0.0.1:1\"\nexporters = [\"é\", 5]")[1], entry("wrong_type", 4, 19, "5"));
}

#[test]
fn serde_speaks_toml() {
    assert_eq!(plain_type("u8"), "a whole number from 0 to 255");
    assert_eq!(plain_type("u64"), "a whole number from 0 up");
    assert_eq!(plain_type("struct WindowSection"), "a table");
    assert_eq!(plain_type("IP address"), "an IP address");
    assert_eq!(plain_found("sequence"), "a list");
    assert_eq!(plain_found("floating point `1.5`"), "number `1.5`");
    assert_eq!(backticked("`a`, expected one of `b`, `c`"), ["a", "b", "c"]);
}
