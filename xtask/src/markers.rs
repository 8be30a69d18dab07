//! The parts of Markdown files that are made by `cargo xtask`: between `<!-- NAME -->` and `<!-- /NAME -->`.

use anyhow::{Context, Result};
use std::ops::Range;

/// What stands between the markers; `file` is named when they are missing.
pub fn between<'a>(text: &'a str, name: &str, file: &str) -> Result<&'a str> {
    Ok(&text[range(text, name, file)?])
}

/// The text with something else between the markers, on lines of its own.
pub fn replace(text: &str, name: &str, file: &str, content: &str) -> Result<String> {
    let range = range(text, name, file)?;
    Ok(format!("{}\n{}\n{}", &text[..range.start], content.trim_end(), &text[range.end..]))
}

fn range(text: &str, name: &str, file: &str) -> Result<Range<usize>> {
    let (begin, end) = (format!("<!-- {name} -->"), format!("<!-- /{name} -->"));
    let start = text.find(&begin).with_context(|| format!("{file} has no {begin}"))? + begin.len();
    let length = text[start..].find(&end).with_context(|| format!("{file} has no {end}"))?;
    Ok(start..start + length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_changes() {
        let text = "a\n<!-- t -->\nold\n<!-- /t -->\nb";
        assert_eq!(between(text, "t", "F.md").unwrap(), "\nold\n");
        let new = replace(text, "t", "F.md", "new\n").unwrap();
        assert_eq!(new, "a\n<!-- t -->\nnew\n<!-- /t -->\nb");
        assert_eq!(replace(&new, "t", "F.md", "new").unwrap(), new);
        assert_eq!(between("<!-- t -->", "t", "F.md").unwrap_err().to_string(), "F.md has no <!-- /t -->");
    }
}
