//! A folder of NAB's layout: folders of `timestamp,value` files (.csv or .csv.gz), `windows.json` with the labelled
//! windows of each, and in `reference/NAME` what a published detector scored. Refused: a series that windows.json names
//! and that is not there, lines that are no row, a window that begins or ends at no row.

use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

/// One series with its labels.
#[derive(Clone, Debug)]
pub struct Series {
    /// `FOLDER/FILE.csv`, as windows.json has it.
    pub name: String,
    /// Where it is.
    pub file: PathBuf,
    /// Of the rows, in seconds since 1970, UTC. In the order of the file: some repeat or go back.
    pub times: Vec<i64>,
    /// First and last row of each labelled window.
    pub windows: Vec<(usize, usize)>,
}

/// All series of a folder, by name.
pub fn read(folder: &Path) -> Result<Vec<Series>> {
    let labels = folder.join("windows.json");
    let text = std::fs::read_to_string(&labels).with_context(|| format!("cannot read {}", labels.display()))?;
    let labels: BTreeMap<String, Vec<[String; 2]>> =
        serde_json::from_str(&text).with_context(|| format!("in {}", labels.display()))?;
    ensure!(!labels.is_empty(), "windows.json names no series");
    let one = |(name, windows): (String, Vec<[String; 2]>)| {
        let file = found(&folder.join(&name))?;
        let rows = rows(&file)?;
        let times = rows.iter().map(|row| time(&row[0])).collect::<Result<Vec<_>>>();
        let times = times.with_context(|| format!("in {}", file.display()))?;
        let row = |text: &str| {
            let wanted = time(text)?;
            let at = times.iter().position(|t| *t == wanted);
            at.with_context(|| format!("a window of {name} begins or ends at {text}, where there is no row"))
        };
        let windows = windows.iter().map(|[from, to]| Ok((row(from)?, row(to)?))).collect::<Result<Vec<_>>>()?;
        Ok(Series { name, file, times, windows })
    };
    labels.into_iter().map(one).collect()
}

/// What a published detector scored, row by row, in the order of the series.
pub fn reference(folder: &Path, name: &str, series: &[Series]) -> Result<Vec<Vec<f64>>> {
    let one = |series: &Series| {
        let file = found(&folder.join("reference").join(name).join(&series.name))?;
        let scores: Result<Vec<f64>> = rows(&file)?.iter().map(|row| Ok(row[1].parse()?)).collect();
        let scores = scores.with_context(|| format!("in {}", file.display()))?;
        let (is, wanted) = (scores.len(), series.times.len());
        ensure!(is == wanted, "{} has {is} rows, the series {wanted}", file.display());
        Ok(scores)
    };
    series.iter().map(one).collect()
}

/// The file, packed or not.
fn found(plain: &Path) -> Result<PathBuf> {
    let packed = PathBuf::from(format!("{}.gz", plain.display()));
    match [plain.to_owned(), packed].into_iter().find(|p| p.is_file()) {
        Some(file) => Ok(file),
        None => bail!("no file {}, nor that with .gz", plain.display()),
    }
}

/// The first two fields of each line below the header.
fn rows(file: &Path) -> Result<Vec<[String; 2]>> {
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut text = String::new();
    match file.extension().is_some_and(|e| e == "gz") {
        true => flate2::read::MultiGzDecoder::new(&*bytes).read_to_string(&mut text),
        false => (&*bytes).read_to_string(&mut text),
    }
    .with_context(|| format!("in {}", file.display()))?;
    let lines = text.lines().enumerate().skip(1).filter(|(_, line)| !line.is_empty());
    let split = |(i, line): (usize, &str)| {
        let mut fields = line.split(',').map(str::to_owned);
        let pair = fields.next().zip(fields.next());
        let (a, b) = pair.with_context(|| format!("{}, line {}: no two fields", file.display(), i + 1))?;
        Ok([a, b])
    };
    lines.map(split).collect()
}

/// `2014-02-14 14:30:00`, with or without a fraction, in UTC.
fn time(text: &str) -> Result<i64> {
    let time: jiff::civil::DateTime = text.parse().with_context(|| format!("{text:?} is no time"))?;
    Ok(time.to_zoned(jiff::tz::TimeZone::UTC)?.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_read_and_what_is_missing_is_named() {
        let dir = std::env::temp_dir().join(format!("kaminari-nab-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("a")).unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.join(name), text).unwrap();
        write("a/x.csv", "timestamp,value\n2014-02-14 14:30:00,1\n2014-02-14 14:35:00,2\n2014-02-14 14:40:00,3\n");
        let window = r#"{"a/x.csv": [["2014-02-14 14:35:00.000000", "2014-02-14 14:40:00.000000"]]}"#;
        write("windows.json", window);
        let series = read(&dir).unwrap();
        assert_eq!((series[0].times[1] - series[0].times[0], &*series[0].windows), (300, &[(1, 2)][..]));
        assert!(reference(&dir, "none", &series).unwrap_err().to_string().contains("none/a/x.csv, nor that with .gz"));
        write("windows.json", &window.replace("14:35", "14:36"));
        let why = read(&dir).unwrap_err().to_string();
        assert_eq!(why, "a window of a/x.csv begins or ends at 2014-02-14 14:36:00.000000, where there is no row");
        write("windows.json", &window.replace("x.csv", "y.csv"));
        assert!(read(&dir).unwrap_err().to_string().contains("a/y.csv, nor that with .gz"));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
