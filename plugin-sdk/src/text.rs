/// Three significant digits and the usual prefix: `1.25 M`.
pub fn short(x: f64) -> String {
    let (x, prefix) = match x.abs() {
        a if a >= 1e9 => (x / 1e9, " G"),
        a if a >= 1e6 => (x / 1e6, " M"),
        a if a >= 1e3 => (x / 1e3, " k"),
        _ => (x, ""),
    };
    let decimals = match x.abs() {
        a if a >= 100.0 => 0,
        a if a >= 10.0 => 1,
        _ => 2,
    };
    format!("{x:.decimals$}{prefix}")
}

#[cfg(test)]
mod tests {
    use super::short;

    #[test]
    fn numbers_are_short() {
        assert_eq!(
            [0.5, 12.345, 999.0, 20_000.0, 1.25e6, 3e9].map(short),
            ["0.50", "12.3", "999", "20.0 k", "1.25 M", "3.00 G"]
        );
    }
}
