//! The eight classes: patterns of two colours.

/// One class of the dataset.
pub struct Class {
    /// Its name, and the name of its folder.
    pub name: &'static str,
    /// Whether a point has the second colour; the pattern's period is 1 in both directions, but for
    /// `rings`, whose period is in the distance from the origin.
    pub(super) is_second: fn(f64, f64) -> bool,
}

/// The classes in the order of their labels: by name, as class folders are read.
pub const CLASSES: [Class; 8] = [
    class("bricks", bricks),
    class("checks", checks),
    class("dots", dots),
    class("grid", grid),
    class("rings", rings),
    class("speckles", speckles),
    class("stripes", stripes),
    class("zigzag", zigzag),
];

const fn class(name: &'static str, is_second: fn(f64, f64) -> bool) -> Class {
    Class { name, is_second }
}

/// Returns whether a point is in the mortar of a wall: two courses of bricks per period, the second
/// moved by half a brick.
fn bricks(x: f64, y: f64) -> bool {
    let course = (2.0 * y).floor();
    let along = (x + 0.5 * course.rem_euclid(2.0)).rem_euclid(1.0);
    along < 0.18 || (2.0 * y - course) < 0.36
}

fn checks(x: f64, y: f64) -> bool {
    (x.rem_euclid(1.0) < 0.5) != (y.rem_euclid(1.0) < 0.5)
}

fn dots(x: f64, y: f64) -> bool {
    (x.rem_euclid(1.0) - 0.5).hypot(y.rem_euclid(1.0) - 0.5) < 0.34
}

fn grid(x: f64, y: f64) -> bool {
    x.rem_euclid(1.0).min(y.rem_euclid(1.0)) < 0.25
}

fn rings(x: f64, y: f64) -> bool {
    x.hypot(y).rem_euclid(1.0) < 0.5
}

/// Cells of a third of a period, a third of them in the second colour, chosen by a hash.
fn speckles(x: f64, y: f64) -> bool {
    let cell = |v: f64| (v * 3.0).floor() as i64 as u64;
    let hash =
        (cell(x).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ cell(y)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    (hash >> 32) % 3 == 0
}

fn stripes(x: f64, _: f64) -> bool {
    x.rem_euclid(1.0) < 0.5
}

fn zigzag(x: f64, y: f64) -> bool {
    let tooth = (y.rem_euclid(1.0) - 0.5).abs();
    (x + tooth).rem_euclid(1.0) < 0.5
}
