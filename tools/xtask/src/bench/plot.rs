//! The figures as bars, a panel for each: SVG that needs no script, readable on a light and a dark page.

use super::report::COLUMNS;
use super::vmm::Figures;

const WIDTH: usize = 760;
const LABEL: usize = 130;
const BAR: f64 = 520.0;
const ROW: usize = 20;
const GAP: usize = 34;
const COLOURS: [&str; 4] = ["#2a7f62", "#b0653a", "#4a6fa5", "#8a5a9e"];

/// One bar per VMM and figure; each panel has its own scale.
pub(super) fn bars(results: &[Figures], commit: &str) -> String {
    let panel = results.len() * ROW + GAP;
    let height = COLUMNS.len() * panel + 40;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\" fill=\"#777\">\n\
         <text x=\"10\" y=\"20\" font-size=\"14\">Boot of a minimal guest; commit {commit}; smaller is better</text>\n"
    );
    for (index, (name, value, decimals)) in COLUMNS.iter().enumerate() {
        let top = 40 + index * panel;
        let largest = results.iter().map(value).fold(f64::MIN_POSITIVE, f64::max);
        svg.push_str(&format!(
            "<text x=\"10\" y=\"{}\" font-weight=\"bold\">{name}</text>\n",
            top + 12
        ));
        for (row, figures) in results.iter().enumerate() {
            let (number, decimals) = (value(figures), *decimals);
            let y = top + 18 + row * ROW;
            let length = BAR * number / largest;
            let colour = COLOURS[row % COLOURS.len()];
            svg.push_str(&format!("<text x=\"10\" y=\"{0}\">{1}</text><rect x=\"{LABEL}\" y=\"{y}\" width=\"{length:.1}\" height=\"14\" \
                 fill=\"{colour}\"/><text x=\"{2:.1}\" y=\"{0}\">{number:.decimals$}</text>\n",
                y + 11,
                figures.name,
                length + 136.0,
            ));
        }
    }
    svg.push_str("</svg>\n");
    svg
}
