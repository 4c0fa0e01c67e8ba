//! `docs/benchmarks.md`: sections that different commands write, each between two comments with its name.

use anyhow::{Context, Result};

use crate::paths;

/// Puts a section in the place of the one before, or at the end of the page.
///
/// # Errors
/// When the page cannot be read or written.
pub(crate) fn put(section: &str, text: &str) -> Result<()> {
    let page = paths::root().join("docs/benchmarks.md");
    let before = std::fs::read_to_string(&page).context("cannot read docs/benchmarks.md")?;
    std::fs::write(&page, replaced(&before, section, text)).context("cannot write docs/benchmarks.md")
}

fn replaced(page: &str, section: &str, text: &str) -> String {
    let (begin, end) = (format!("<!-- {section} -->\n"), format!("<!-- end of {section} -->\n"));
    let whole = format!("{begin}{}\n{end}", text.trim_end());
    let places = page.find(&begin).and_then(|from| Some((from, from + page[from..].find(&end)? + end.len())));
    match places {
        Some((from, to)) => format!("{}{whole}{}", &page[..from], &page[to..]),
        None => format!("{}\n\n{whole}", page.trim_end()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_takes_the_place_of_the_one_before_and_leaves_the_others() {
        let page = replaced(&replaced("# Page\n", "one", "first\n"), "two", "second");
        assert_eq!(
            page,
            "# Page\n\n<!-- one -->\nfirst\n<!-- end of one -->\n\n<!-- two -->\nsecond\n<!-- end of two -->\n"
        );
        let page = replaced(&page, "one", "other");
        assert_eq!(
            page,
            "# Page\n\n<!-- one -->\nother\n<!-- end of one -->\n\n<!-- two -->\nsecond\n<!-- end of two -->\n"
        );
    }
}
