//! The figures as a table in Markdown.
#![expect(
    clippy::print_stdout,
    reason = "the table is the result of this command"
)]

use super::peers::MEMORY_MIB;
use super::starts::Start;
use super::vmm::Figures;

/// One column: heading, value, and decimals.
pub(super) type Column = (&'static str, fn(&Figures) -> f64, usize);

/// The columns of the table and the panels of the plot.
#[expect(
    clippy::cast_precision_loss,
    reason = "the figures are shown with three digits"
)]
pub(super) const COLUMNS: [Column; 7] = [
    (
        "exec to first line, M instructions",
        |f| f.first_line as f64 / 1e6,
        1,
    ),
    ("exec to exit, M instructions", |f| f.exit as f64 / 1e6, 1),
    ("CPU, M instructions", |f| f.cpu as f64 / 1e6, 1),
    (
        "non-guest PSS idle, MiB",
        |f| f.memory_kib as f64 / 1024.0,
        2,
    ),
    ("threads", |f| f.threads as f64, 0),
    ("KVM exits", |f| f.exits as f64, 0),
    ("system calls", |f| f.syscalls as f64, 0),
];

/// The whole page.
#[expect(
    clippy::cast_precision_loss,
    reason = "the figures are shown with one decimal"
)]
pub(super) fn table(results: &[Figures], starts: &[Start], commit: &str) -> String {
    let mut page = format!(
        "# Boot of a minimal guest, husk against QEMU microvm\n\n\
         Measured by `cargo xtask bench` at commit {commit}: one boot of the testbed with instruction counting, the same kernel\n\
         and initrd, 1 vCPU, {MEMORY_MIB} MiB; median after one run that warms the caches. M: million instructions of everything,\n\
         L1's kernel and the guest included. Ratios are to the first row; smaller is better everywhere.\n\n| VMM |"
    );
    for (name, _, _) in COLUMNS {
        page.push_str(&format!(" {name} |"));
    }
    page.push_str("\n| --- |");
    page.push_str(&" ---: |".repeat(COLUMNS.len()));
    for figures in results {
        page.push_str(&format!("\n| {} |", figures.name));
        for (_, value, decimals) in COLUMNS {
            let number = value(figures);
            let reference = results.first().map_or(number, value);
            page.push_str(&format!(" {number:.decimals$}"));
            if reference > 0.0 && (number - reference).abs() > f64::EPSILON {
                page.push_str(&format!(" ({:.2}x)", number / reference));
            }
            page.push_str(" |");
        }
    }
    page.push_str("\n\n![the same as bars](boot.svg)\n\n| start, with husk's own kernel and initrd | M instructions |\n| --- | ---: |\n");
    for start in starts {
        let millions = start.instructions as f64 / 1e6;
        page.push_str(&format!("| {} | {millions:.1} |\n", start.name));
    }
    page
}

/// Prints the table to the user.
pub(super) fn print(table: &str) {
    print!("{table}");
}
