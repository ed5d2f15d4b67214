//! A treemap as SVG: each part as large as its share, coloured by its group, with its name where there is room.

use std::fmt::Write as _;

const WIDTH: f64 = 1200.0;
const HEIGHT: f64 = 800.0;
/// Space for the names of a part above its parts.
const TITLE: f64 = 16.0;
/// What is smaller is left out.
const SMALLEST: f64 = 3.0;
/// Width of a character, about.
const CHARACTER: f64 = 7.0;
/// Parts within each other that are drawn.
const DEEPEST: usize = 6;

/// What is drawn.
#[derive(Clone, Debug)]
pub(crate) struct Area {
    pub(crate) name: String,
    pub(crate) size: u64,
    /// Parts of one group have one colour.
    pub(crate) group: usize,
    pub(crate) parts: Vec<Area>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Rectangle {
    x: f64,
    y: f64,
    width: f64,
    height: f64,
}

/// Draws a treemap.
pub(crate) fn draw(area: &Area, title: &str) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n<title>{}</title>\n",
        escape(title)
    );
    let whole = Rectangle {
        x: 0.0,
        y: 0.0,
        width: WIDTH,
        height: HEIGHT,
    };
    draw_area(area, whole, 0, &mut svg);
    svg.push_str("</svg>\n");
    svg
}

fn draw_area(area: &Area, place: Rectangle, depth: usize, svg: &mut String) {
    let Rectangle {
        x,
        y,
        width,
        height,
    } = place;
    // Golden angle: groups that follow each other differ most.
    let hue = (area.group * 137) % 360;
    let light = 60 + 5 * depth.min(6);
    writeln!(
        svg,
        "<g><title>{name} ({size} bytes)</title><rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" \
         height=\"{height:.1}\" fill=\"hsl({hue},55%,{light}%)\" stroke=\"#fff\"/>",
        name = escape(&area.name),
        size = area.size,
    )
    .unwrap_or_default();
    let titled = height > TITLE && width > 3.0 * CHARACTER;
    if titled {
        let room = ((width - 6.0) / CHARACTER).max(0.0);
        let name: String = area
            .name
            .chars()
            .enumerate()
            .take_while(|(at, _)| at_most(*at, room))
            .map(|(_, c)| c)
            .collect();
        let (x, y) = (x + 3.0, y + 12.0);
        writeln!(
            svg,
            "<text x=\"{x:.1}\" y=\"{y:.1}\">{}</text>",
            escape(&name)
        )
        .unwrap_or_default();
    }
    svg.push_str("</g>\n");
    let top = if titled { TITLE } else { 1.0 };
    let inside = Rectangle {
        x: x + 1.0,
        y: y + top,
        width: width - 2.0,
        height: height - top - 1.0,
    };
    if depth < DEEPEST && inside.width > SMALLEST && inside.height > SMALLEST {
        divide(&area.parts, inside, depth + 1, svg);
    }
}

fn at_most(at: usize, room: f64) -> bool {
    u32::try_from(at + 1).is_ok_and(|at| f64::from(at) <= room)
}

/// Halves the parts, by size, and the rectangle with them, along its longer side.
fn divide(parts: &[Area], place: Rectangle, depth: usize, svg: &mut String) {
    let total: u64 = parts.iter().map(|part| part.size).sum();
    if total == 0 || place.width < SMALLEST || place.height < SMALLEST {
        return;
    }
    if let [only] = parts {
        draw_area(only, place, depth, svg);
        return;
    }
    let (mut first, mut count) = (0, 0);
    for part in &parts[..parts.len() - 1] {
        if count > 0 && first + part.size / 2 > total / 2 {
            break;
        }
        first += part.size;
        count += 1;
    }
    let share = ratio(first, total);
    let (mut one, mut other) = (place, place);
    if place.width > place.height {
        one.width = place.width * share;
        (other.x, other.width) = (place.x + one.width, place.width - one.width);
    } else {
        one.height = place.height * share;
        (other.y, other.height) = (place.y + one.height, place.height - one.height);
    }
    divide(&parts[..count], one, depth, svg);
    divide(&parts[count..], other, depth, svg);
}

/// `part / whole`, both cut to what a float holds exactly.
fn ratio(part: u64, whole: u64) -> f64 {
    let shift = 64_u32
        .saturating_sub(whole.leading_zeros())
        .saturating_sub(32);
    let small = |number: u64| f64::from(u32::try_from(number >> shift).unwrap_or(u32::MAX));
    if small(whole) == 0.0 {
        0.0
    } else {
        small(part) / small(whole)
    }
}

fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for char in text.chars() {
        match char {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            // XML has none of these, not even escaped.
            char if char.is_control() => escaped.push('?'),
            char => escaped.push(char),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(name: &str, size: u64, parts: Vec<Area>) -> Area {
        Area {
            name: name.to_owned(),
            size,
            group: 0,
            parts,
        }
    }

    #[test]
    fn every_part_with_room_is_drawn_and_names_are_text() {
        let parts = vec![
            part("<script>", 60, Vec::new()),
            part("b\u{1b}", 40, Vec::new()),
            part("none", 0, Vec::new()),
        ];
        let svg = draw(&part("/", 100, parts), "a & b");
        assert_eq!(svg.matches("<rect").count(), 3);
        assert!(
            svg.contains("&lt;script&gt; (60 bytes)")
                && svg.contains("a &amp; b")
                && svg.contains("b?")
        );
        assert!(!svg.contains("<script>"));
    }

    #[test]
    fn shares_are_those_of_the_sizes() {
        assert!((ratio(1, 4) - 0.25).abs() < 1e-9);
        assert!((ratio(u64::MAX / 2, u64::MAX) - 0.5).abs() < 1e-6);
        assert!(ratio(0, 0).abs() < 1e-9);
    }
}
