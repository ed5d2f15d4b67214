//! `husk list`.

use super::{Context, Result, print, to_json};
use crate::cli::{ListArgs, ListFormat};
use crate::owner::owner_name;
use crate::state::{Record, Status, View};

/// Column widths of runc's table: at least this, and three spaces.
const MIN_WIDTH: usize = 12;

pub(super) fn list(context: &Context, args: &ListArgs) -> Result<()> {
    let containers: Vec<(Record, Status)> = context
        .root
        .ids()?
        .iter()
        .filter_map(|id| match context.root.read(id) {
            Ok(container) => Some(container),
            Err(error) => {
                // One damaged container must not hide the others.
                context.log.warn(&error.to_string());
                None
            }
        })
        .collect();
    let mut views: Vec<View<'_>> = containers
        .iter()
        .map(|(record, status)| View::new(record, *status))
        .collect();
    for (view, (record, _)) in views.iter_mut().zip(&containers) {
        view.owner = owner_name(record.owner);
    }
    match (args.quiet, args.format) {
        (true, _) => print(
            &containers
                .iter()
                .map(|(record, _)| record.id.clone() + "\n")
                .collect::<String>(),
        ),
        (false, ListFormat::Table) => print(&table(&views)),
        (false, ListFormat::Json) => print_json(&views),
    }
}

fn print_json(views: &[View<'_>]) -> Result<()> {
    // runc prints what Go makes of an empty list.
    if views.is_empty() {
        return print("null");
    }
    print(&to_json(&views)?)
}

fn table(views: &[View<'_>]) -> String {
    let heading = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned);
    let mut rows = vec![heading];
    rows.extend(views.iter().map(View::columns));
    let width = |column: usize| {
        let longest = rows
            .iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0);
        (longest + 3).max(MIN_WIDTH)
    };
    let widths: [usize; 5] = std::array::from_fn(width);
    let mut text = String::new();
    for row in &rows {
        for (cell, width) in row.iter().zip(widths) {
            text += &format!("{cell:<width$}");
        }
        text += &row[5];
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_table_is_what_runc_prints() {
        let heading = "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n";
        assert_eq!(table(&[]), heading);
    }
}
