//! The learning curves of a comparison, as SVG.

use anyhow::anyhow;
use nearfield_trainer::evaluate::compare::Comparison;
use plotters::prelude::*;
use plotters::style::FontStyle;
use plotters::style::text_anchor::{HPos, Pos, VPos};

const SIZE: (u32, u32) = (1040, 600);

/// Room for the labels at the line ends, in pixels.
const LABELS: u32 = 220;

/// Height of one label, in pixels.
const LABEL_HEIGHT: f64 = 21.0;

const FONT: &str = "system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif";

const INK: RGBColor = RGBColor(0x1f, 0x29, 0x37);
const MUTED: RGBColor = RGBColor(0x5b, 0x65, 0x73);
const GRID: RGBColor = RGBColor(0xe5, 0xe8, 0xec);
const AXIS: RGBColor = RGBColor(0xb6, 0xbd, 0xc6);

/// The product's colour, then those of the other methods: distinct in lightness too, after the
/// palette of Okabe and Ito for colour-blind readers.
const COLOURS: [RGBColor; 7] = [
    RGBColor(0xc2, 0x3b, 0x12),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0x56, 0xb4, 0xe9),
    RGBColor(0x8d, 0x96, 0xa3),
    RGBColor(0x4b, 0x55, 0x63),
];

/// Returns the hit rate of each method over the replay, drawn as SVG.
///
/// # Errors
/// Whatever the drawing library refuses.
pub fn learning_curves(found: &Comparison) -> anyhow::Result<String> {
    let mut svg = String::new();
    draw(found, &mut svg).map_err(|error| anyhow!("cannot draw the learning curves: {error}"))?;
    Ok(svg)
}

fn draw(found: &Comparison, svg: &mut String) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let text = |size: i32, colour: RGBColor| {
        (FONT, size).into_font().color(&colour).pos(Pos::new(HPos::Left, VPos::Top))
    };
    let bold = (FONT, 22).into_font().style(FontStyle::Bold).color(&INK).pos(Pos::new(HPos::Left, VPos::Top));
    root.draw_text("Hit rate while learning", &bold, (24, 18))?;
    let window = thousands(found.window as u64);
    let lines = [
        "Share of the items new to the person that stood among the first ten before they were chosen"
            .to_owned(),
        format!(
            "Test, then learn: second half of the stream, event by event, sliding window of {window} targets; beside each name, the whole replay"
        ),
    ];
    for (line, y) in lines.iter().zip([48, 68]) {
        root.draw_text(line, &text(14, MUTED), (24, y))?;
    }

    let points = || found.curves.iter().flat_map(|curve| &curve.points);
    let left = points().map(|(x, _)| *x).fold(f64::INFINITY, f64::min);
    let right = points().map(|(x, _)| *x).fold(1.0, f64::max);
    let left = if left.is_finite() { left.min(right - 1.0) } else { 0.0 };
    let highest = points().map(|(_, y)| *y).fold(0.05, f64::max);
    let top = (highest * 1.08 * 20.0).ceil() / 20.0;
    let mut chart = ChartBuilder::on(&root)
        .margin_top(104)
        .margin_left(16)
        .margin_bottom(14)
        .margin_right(LABELS)
        .x_label_area_size(46)
        .y_label_area_size(58)
        .build_cartesian_2d(left..right, 0.0..top)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(WHITE.mix(0.0))
        .bold_line_style(GRID)
        .axis_style(AXIS)
        .x_labels(8)
        .y_labels(8)
        .x_label_formatter(&|x| thousands(x.round() as u64))
        .y_label_formatter(&|y| format!("{:.0} %", y * 100.0))
        .label_style((FONT, 13).into_font().color(&MUTED))
        .axis_desc_style((FONT, 14).into_font().color(&INK))
        .x_desc("events replayed")
        .y_desc("HR@10, items new to the person")
        .draw()?;

    // The product is drawn last, so that it lies above.
    let mut ends = Vec::new();
    for (index, curve) in found.curves.iter().enumerate().rev() {
        let colour = COLOURS[index % COLOURS.len()];
        let width = if index == 0 { 3 } else { 2 };
        let style = ShapeStyle { color: colour.to_rgba(), filled: false, stroke_width: width };
        chart.draw_series(LineSeries::new(curve.points.iter().copied(), style))?;
        if let Some(last) = curve.points.last() {
            let (x, y) = chart.backend_coord(last);
            ends.push((f64::from(y), x, index, curve.hr10));
        }
    }
    ends.sort_by(|a, b| a.0.total_cmp(&b.0));
    let preferred: Vec<f64> = ends.iter().map(|end| end.0).collect();
    for ((y, x, index, value), label_y) in ends.iter().zip(spread(&preferred, LABEL_HEIGHT)) {
        let colour = COLOURS[index % COLOURS.len()];
        let label = format!("{}  {:.1} %", found.curves[*index].method, value * 100.0);
        let (y, label_y) = (y.round() as i32, label_y.round() as i32);
        root.draw(&PathElement::new(vec![(x + 3, y), (x + 13, label_y)], colour.mix(0.6).stroke_width(1)))?;
        let weight = if *index == 0 { FontStyle::Bold } else { FontStyle::Normal };
        let style =
            (FONT, 14).into_font().style(weight).color(&colour).pos(Pos::new(HPos::Left, VPos::Center));
        root.draw_text(&label, &style, (x + 17, label_y))?;
    }
    root.present()?;
    Ok(())
}

/// Moves rising positions apart to at least `gap`, each group staying around its own middle.
fn spread(preferred: &[f64], gap: f64) -> Vec<f64> {
    // Groups of (sum of preferred positions less the offsets within the group, members).
    let mut groups: Vec<(f64, usize)> = Vec::new();
    let first = |(sum, count): (f64, usize)| sum / count as f64;
    for position in preferred {
        groups.push((*position, 1));
        while let [.., before, last] = groups[..] {
            if first(before) + before.1 as f64 * gap <= first(last) {
                break;
            }
            groups.truncate(groups.len() - 2);
            let moved = last.0 - (last.1 * before.1) as f64 * gap;
            groups.push((before.0 + moved, before.1 + last.1));
        }
    }
    groups
        .into_iter()
        .flat_map(|group| (0..group.1).map(move |index| first(group) + index as f64 * gap))
        .collect()
}

/// Returns a number with a thin space between its thousands.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('\u{2009}');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_move_apart_around_their_middle_and_others_stay() {
        assert_eq!(spread(&[10.0, 10.0, 50.0], 20.0), [0.0, 20.0, 50.0]);
        assert_eq!(spread(&[10.0, 12.0, 14.0], 10.0), [2.0, 12.0, 22.0]);
        assert_eq!(spread(&[0.0, 30.0], 20.0), [0.0, 30.0]);
        // Moving the first two apart pushes into the third: all three share their middle.
        assert_eq!(spread(&[10.0, 10.0, 25.0], 20.0), [-5.0, 15.0, 35.0]);
    }

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!(thousands(41_923), "41\u{2009}923");
        assert_eq!(thousands(923), "923");
    }
}
