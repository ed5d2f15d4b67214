//! A file that is too long has more than one reason to change.

use anyhow::Result;

use super::Tree;

/// Lines of a source file, without its unit tests.
const SOURCE_LINES: usize = 600;
/// Lines of a page of documentation.
const PAGE_LINES: usize = 400;

pub(super) fn check(tree: &Tree) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for file in &tree.files {
        let (lines, limit) = if file.is_rust() {
            (
                file.text
                    .lines()
                    .take_while(|line| !line.starts_with("#[cfg(test)]"))
                    .count(),
                SOURCE_LINES,
            )
        } else if file
            .path
            .extension()
            .is_some_and(|extension| extension == "md")
        {
            (file.text.lines().count(), PAGE_LINES)
        } else {
            continue;
        };
        if lines > limit {
            found.push(format!(
                "{}: {lines} lines, more than {limit}",
                file.path.display()
            ));
        }
    }
    Ok(found)
}
