//! What the shop sells: collections, each with one product in every category.

use crate::random::Chances;
use serde::Serialize;

/// A shelf of the shop.
#[derive(Debug)]
pub struct Category {
    /// Stable name in ids and in the page's drawings.
    pub glyph: &'static str,
    /// Name on the shelf.
    pub name: &'static str,
    /// Part of the shop that the shelf belongs to.
    pub department: &'static str,
    nouns: &'static [&'static str],
    /// Lowest and highest list price, in whole currency units.
    price: (f64, f64),
    /// Shelves that people continue to from here, most natural first.
    pub next: &'static [&'static str],
}

const fn shelf(
    glyph: &'static str,
    name: &'static str,
    department: &'static str,
    nouns: &'static [&'static str],
    price: (f64, f64),
    next: &'static [&'static str],
) -> Category {
    Category { glyph, name, department, nouns, price, next }
}

/// Every shelf.
#[rustfmt::skip]
pub const CATEGORIES: [Category; 24] = [
    shelf("tent", "Tents", "Outdoors", &["dome tent", "two-person tent", "tunnel tent", "tarp tent"], (129.0, 480.0), &["sleeping-bag", "stove"]),
    shelf("sleeping-bag", "Sleeping bags", "Outdoors", &["sleeping bag", "down bag", "three-season bag"], (69.0, 290.0), &["stove", "lantern"]),
    shelf("stove", "Stoves", "Outdoors", &["camp stove", "gas stove", "trail stove"], (29.0, 140.0), &["lantern", "bottle"]),
    shelf("backpack", "Backpacks", "Outdoors", &["backpack", "trail pack", "day pack", "rucksack"], (49.0, 240.0), &["boots", "bottle"]),
    shelf("boots", "Boots", "Outdoors", &["hiking boots", "walking boots", "trail boots"], (79.0, 260.0), &["beanie", "backpack"]),
    shelf("lantern", "Lanterns", "Outdoors", &["lantern", "camp light", "storm lantern"], (19.0, 85.0), &["bottle", "tent"]),
    shelf("mug", "Mugs", "Kitchen", &["mug", "enamel mug", "breakfast mug", "tumbler"], (8.0, 32.0), &["teapot", "bottle"]),
    shelf("teapot", "Teapots", "Kitchen", &["teapot", "stone teapot", "kettle pot"], (24.0, 120.0), &["mug", "pan"]),
    shelf("pan", "Pans", "Kitchen", &["frying pan", "skillet", "sauté pan"], (29.0, 160.0), &["teapot", "mug"]),
    shelf("bottle", "Bottles", "Kitchen", &["bottle", "flask", "vacuum bottle"], (14.0, 55.0), &["backpack", "mug"]),
    shelf("lamp", "Lamps", "Home", &["table lamp", "desk lamp", "reading lamp"], (39.0, 260.0), &["chair", "clock"]),
    shelf("chair", "Chairs", "Home", &["lounge chair", "dining chair", "armchair"], (89.0, 690.0), &["cushion", "lamp"]),
    shelf("cushion", "Cushions", "Home", &["cushion", "wool cushion", "floor cushion"], (19.0, 95.0), &["chair", "vase"]),
    shelf("vase", "Vases", "Home", &["vase", "bud vase", "tall vase"], (15.0, 110.0), &["plant", "clock"]),
    shelf("plant", "Plants", "Home", &["potted fern", "potted ficus", "potted monstera", "potted palm"], (12.0, 90.0), &["vase", "lamp"]),
    shelf("clock", "Clocks", "Home", &["wall clock", "kitchen clock", "station clock"], (25.0, 150.0), &["lamp", "vase"]),
    shelf("tee", "T-shirts", "Clothing", &["T-shirt", "pocket tee", "heavy tee"], (18.0, 65.0), &["sneaker", "sunglasses"]),
    shelf("knit", "Knitwear", "Clothing", &["sweater", "crew knit", "wool pullover"], (49.0, 220.0), &["beanie", "boots"]),
    shelf("beanie", "Beanies", "Clothing", &["beanie", "ribbed beanie", "watch cap"], (15.0, 60.0), &["knit", "boots"]),
    shelf("sneaker", "Sneakers", "Clothing", &["sneaker", "runner", "court shoe"], (59.0, 210.0), &["tee", "sunglasses"]),
    shelf("sunglasses", "Sunglasses", "Clothing", &["sunglasses", "round shades", "sport shades"], (29.0, 190.0), &["tee", "sneaker"]),
    shelf("headphones", "Headphones", "Sound", &["headphones", "studio headphones", "over-ear set"], (59.0, 390.0), &["speaker", "camera"]),
    shelf("speaker", "Speakers", "Sound", &["speaker", "shelf speaker", "portable speaker"], (49.0, 490.0), &["headphones", "lamp"]),
    shelf("camera", "Cameras", "Sound", &["compact camera", "film camera", "travel camera"], (149.0, 890.0), &["sunglasses", "headphones"]),
];

/// The index of the shelf called `glyph`.
pub fn category(glyph: &str) -> usize {
    CATEGORIES.iter().position(|shelf| shelf.glyph == glyph).expect("every shelf named in the table exists")
}

/// A look that runs through the shop; people have one or two that they like.
#[derive(Debug)]
pub struct Style {
    /// Centre of the hues, in degrees.
    hue: f64,
    /// Hue of the contrasting colour, in degrees.
    accent: f64,
    /// Saturation, in percent.
    saturation: f64,
    patterns: &'static [&'static str],
    syllables: (&'static [&'static str], &'static [&'static str]),
}

/// Every style: fjord, clay, moss, dusk and sun.
#[rustfmt::skip]
pub const STYLES: [Style; 5] = [
    Style { hue: 212.0, accent: 190.0, saturation: 42.0, patterns: &["plain", "stripes", "bands"], syllables: (&["Fjell", "Nor", "Hal", "Skag", "Tro"], &["vik", "den", "sund", "mar"]) },
    Style { hue: 16.0, accent: 42.0, saturation: 58.0, patterns: &["plain", "blocks", "bands"], syllables: (&["Ros", "Ter", "Sie", "Cam", "Mon"], &["sa", "rano", "na", "pello"]) },
    Style { hue: 138.0, accent: 84.0, saturation: 32.0, patterns: &["plain", "dots", "leaves"], syllables: (&["Fern", "Alder", "Wil", "Thorn", "Hazel"], &["ley", "wood", "brook", "by"]) },
    Style { hue: 282.0, accent: 330.0, saturation: 36.0, patterns: &["zigzag", "dots", "plain"], syllables: (&["Lu", "Ves", "Aru", "Noc", "Ili"], &["mia", "per", "ra", "tella"]) },
    Style { hue: 45.0, accent: 200.0, saturation: 78.0, patterns: &["checks", "stripes", "blocks"], syllables: (&["Sol", "Hiro", "Kana", "Mika", "Ama"], &["ko", "ya", "shi", "ri"]) },
];

/// Collections of each style.
const LINES_PER_STYLE: usize = 20;
/// Of those, how many arrive while the shoppers browse.
const ARRIVALS_PER_STYLE: usize = 2;

const ADJECTIVES: [&[&str]; 3] = [
    &["Plain", "Everyday", "Simple", "Light", "Field"],
    &["Classic", "Weekend", "Heritage", "Select", "Coast"],
    &["Atelier", "Reserve", "Signature", "Master", "Grand"],
];

/// How a product is drawn; the page turns this into a picture.
#[derive(Debug, Clone, Serialize)]
pub struct Art {
    /// Shape, the category's `glyph`.
    pub glyph: &'static str,
    /// Main hue, in degrees.
    pub hue: u16,
    /// Hue of the contrasting colour, in degrees.
    pub accent: u16,
    /// Saturation, in percent.
    pub saturation: u8,
    /// Lightness of the main colour, in percent.
    pub lightness: u8,
    /// Surface: plain, stripes, bands, blocks, dots, leaves, zigzag or checks.
    pub pattern: &'static str,
    /// Form of the shape, 0 to 3.
    pub form: u8,
}

/// One product.
#[derive(Debug, Clone)]
pub struct Product {
    /// Stable id, such as `tent-017`.
    pub id: String,
    /// Name for people.
    pub name: String,
    /// Index into [`CATEGORIES`].
    pub category: usize,
    /// Index into [`STYLES`].
    pub style: usize,
    /// Collection, below the number of styles × collections of a style.
    pub line: usize,
    /// Price level of the collection: 0 plain, 1 good, 2 dear.
    pub tier: usize,
    /// Price in whole currency units.
    pub price: u32,
    /// How it is drawn.
    pub art: Art,
    /// When it comes to the shop, in milliseconds after the first event's day; none if it was there before.
    pub arrives_ms: Option<u64>,
    /// Weight among the products of its shelf before any taste or trend, > 0.
    pub appeal: f64,
    /// Change of ln(appeal) over the whole time; positive rises.
    pub trend: f64,
}

/// All products of the shop, shelf by shelf.
///
/// New collections arrive at times spread over (`arrive_from_ms`, `arrive_to_ms`).
pub fn stock(chances: &mut Chances, arrive_from_ms: u64, arrive_to_ms: u64) -> Vec<Product> {
    struct Line {
        name: String,
        style: usize,
        tier: usize,
        hue: f64,
        lightness: f64,
        pattern: &'static str,
        arrives_ms: Option<u64>,
    }
    let mut lines = Vec::new();
    for (index, style) in STYLES.iter().enumerate() {
        let mut names: Vec<String> = style
            .syllables
            .0
            .iter()
            .flat_map(|head| style.syllables.1.iter().map(move |tail| format!("{head}{tail}")))
            .collect();
        assert_eq!(names.len(), LINES_PER_STYLE, "the syllables make exactly the collections of a style");
        chances.shuffle(&mut names);
        for (number, name) in names.into_iter().enumerate() {
            let arrives = number >= LINES_PER_STYLE - ARRIVALS_PER_STYLE;
            lines.push(Line {
                name,
                style: index,
                tier: chances.weighted(&[0.45, 0.35, 0.2]).expect("weights are above 0"),
                hue: style.hue + chances.between(-16.0, 16.0),
                lightness: chances.between(38.0, 66.0),
                pattern: style.patterns[chances.below(style.patterns.len())],
                arrives_ms: arrives
                    .then(|| chances.between(arrive_from_ms as f64, arrive_to_ms as f64) as u64),
            });
        }
    }

    let mut stock = Vec::with_capacity(CATEGORIES.len() * lines.len());
    for (category, shelf) in CATEGORIES.iter().enumerate() {
        let mut ranks: Vec<usize> = (0..lines.len()).collect();
        chances.shuffle(&mut ranks);
        for (number, line) in lines.iter().enumerate() {
            let noun = shelf.nouns[chances.below(shelf.nouns.len())];
            let adjective = ADJECTIVES[line.tier][chances.below(ADJECTIVES[line.tier].len())];
            let (low, high) = shelf.price;
            let level = [0.12, 0.4, 0.78][line.tier] + chances.between(-0.1, 0.2);
            let style = &STYLES[line.style];
            stock.push(Product {
                id: format!("{}-{number:03}", shelf.glyph),
                name: format!("{} {} {noun}", line.name, adjective.to_lowercase()),
                category,
                style: line.style,
                line: number,
                tier: line.tier,
                price: libm::round(low + (high - low) * level) as u32,
                art: Art {
                    glyph: shelf.glyph,
                    hue: (line.hue + chances.between(-8.0, 8.0) + 360.0) as u16 % 360,
                    accent: (style.accent + chances.between(-12.0, 12.0) + 360.0) as u16 % 360,
                    saturation: (style.saturation + chances.between(-8.0, 8.0)) as u8,
                    lightness: (line.lightness + chances.between(-5.0, 5.0)) as u8,
                    pattern: line.pattern,
                    form: chances.below(4) as u8,
                },
                arrives_ms: line.arrives_ms,
                // Zipf with a flattened head, so that no shelf is one product.
                appeal: 1.0 / libm::pow(ranks[number] as f64 + 3.0, 0.8),
                trend: if chances.yes(0.4) { chances.between(-2.0, 2.0) } else { 0.0 },
            });
        }
    }
    stock
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_shelf_leads_to_a_shelf_and_every_id_and_name_is_one_products() {
        for shelf in &CATEGORIES {
            for next in shelf.next {
                category(next);
            }
        }
        let stock = stock(&mut Chances::new(7), 10, 20);
        assert_eq!(stock.len(), 2400);
        assert_eq!(stock.iter().map(|product| &product.id).collect::<HashSet<_>>().len(), 2400);
        let arrivals = stock.iter().filter(|product| product.arrives_ms.is_some()).count();
        assert_eq!(arrivals, 240);
        assert!(stock.iter().all(|product| product.price > 0 && product.art.hue < 360));
    }
}
