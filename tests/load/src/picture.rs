//! Lines over two logarithmic axes, in panels one below the other.

use anyhow::{Result, anyhow};
use plotters::prelude::*;
use std::path::Path;

const WIDTH: f64 = 900.0;
/// Of a panel.
const HEIGHT: f64 = 460.0;
const LEFT: f64 = 70.0;
/// Where the names of the lines stand.
const RIGHT: f64 = 300.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 50.0;

/// A logarithmic axis.
pub(crate) struct Axis {
    from: f64,
    to: f64,
    marks: Vec<f64>,
}

impl Axis {
    /// An axis with lines across the panel at `marks`.
    pub(crate) fn new(from: f64, to: f64, marks: &[f64]) -> Self {
        Self { from, to, marks: marks.to_vec() }
    }

    /// How far along a value lies, from 0 to 1; one beyond an end lies there.
    fn share(&self, value: f64) -> f64 {
        (value.clamp(self.from, self.to) / self.from).ln() / (self.to / self.from).ln()
    }
}

/// A line through its points.
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) colour: RGBColor,
    pub(crate) points: Vec<(f64, f64)>,
    /// A point that a ring is drawn around.
    pub(crate) ring: Option<(f64, f64)>,
}

/// Axes and lines.
pub(crate) struct Panel {
    title: String,
    x: Axis,
    y: Axis,
    pub(crate) lines: Vec<Line>,
}

impl Panel {
    /// A panel without lines.
    pub(crate) fn new(title: &str, x: Axis, y: Axis) -> Self {
        Self { title: title.to_owned(), x, y, lines: Vec::new() }
    }

    fn x(&self, value: f64) -> i32 {
        (LEFT + (WIDTH - LEFT - RIGHT) * self.x.share(value)) as i32
    }

    fn y(&self, value: f64) -> i32 {
        (HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * self.y.share(value)) as i32
    }

    fn draw(&self, area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>) -> Result<()> {
        let fault = |error: &dyn std::fmt::Display| anyhow!("cannot draw: {error}");
        let put = |text: &str, at: (i32, i32), size: i32| {
            let text = Text::new(text.to_owned(), at, ("sans-serif", size).into_font());
            area.draw(&text).map_err(|error| fault(&error))
        };
        let line = |points: Vec<(i32, i32)>, style: ShapeStyle| {
            area.draw(&PathElement::new(points, style)).map_err(|error| fault(&error))
        };
        put(&self.title, (12, 14), 16)?;
        let grid = RGBColor(225, 225, 225).stroke_width(1);
        for &mark in &self.y.marks {
            line(vec![(self.x(self.x.from), self.y(mark)), (self.x(self.x.to), self.y(mark))], grid)?;
            put(&mark.to_string(), (LEFT as i32 - 40, self.y(mark) - 7), 13)?;
        }
        for &mark in &self.x.marks {
            line(vec![(self.x(mark), self.y(self.y.from)), (self.x(mark), self.y(self.y.to))], grid)?;
            put(&mark.to_string(), (self.x(mark) - 14, (HEIGHT - BOTTOM) as i32 + 8), 13)?;
        }
        for (at, Line { name, colour, points, ring }) in self.lines.iter().enumerate() {
            let place = |&(x, y): &(f64, f64)| (self.x(x), self.y(y));
            let points: Vec<(i32, i32)> = points.iter().map(place).collect();
            for point in &points {
                area.draw(&Circle::new(*point, 3, colour.filled())).map_err(|error| fault(&error))?;
            }
            if let Some(ring) = ring.as_ref().map(place) {
                area.draw(&Circle::new(ring, 7, colour.stroke_width(2))).map_err(|error| fault(&error))?;
            }
            line(points, colour.stroke_width(2))?;
            let row = TOP as i32 + 22 * at as i32;
            let key = (WIDTH - RIGHT) as i32 + 14;
            line(vec![(key, row + 7), (key + 22, row + 7)], colour.stroke_width(3))?;
            put(name, (key + 28, row), 13)?;
        }
        Ok(())
    }
}

/// Draws panels.
pub(crate) fn draw(picture: &Path, panels: &[Panel]) -> Result<()> {
    let fault = |error: &dyn std::fmt::Display| anyhow!("cannot draw {}: {error}", picture.display());
    let height = HEIGHT as u32 * panels.len() as u32;
    let root = SVGBackend::new(picture, (WIDTH as u32, height)).into_drawing_area();
    root.fill(&WHITE).map_err(|error| fault(&error))?;
    for (panel, area) in panels.iter().zip(root.split_evenly((panels.len(), 1))) {
        panel.draw(&area).map_err(|error| fault(&error))?;
    }
    root.present().map_err(|error| fault(&error))
}
