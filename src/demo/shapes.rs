//! The eight classes: what each shape covers and what its surface looks like.

/// One class of the set.
pub struct Class {
    /// Its name, and the name of its folder.
    pub name: &'static str,
    /// Whether the shape covers a point; it fits the unit disc.
    pub(super) covers: fn(f64, f64) -> bool,
    /// Which of two colours a point of its surface has; the pattern's period is 1.
    pub(super) pattern: fn(f64, f64) -> bool,
}

/// The classes, in the order of their labels (by name, as class folders are read).
pub const CLASSES: [Class; 8] = [
    Class {
        name: "checked_square",
        covers: square,
        pattern: checks,
    },
    Class {
        name: "dotted_triangle",
        covers: triangle,
        pattern: dots,
    },
    Class {
        name: "plain_cross",
        covers: cross,
        pattern: plain,
    },
    Class {
        name: "plain_ring",
        covers: ring,
        pattern: plain,
    },
    Class {
        name: "plain_star",
        covers: star,
        pattern: plain,
    },
    Class {
        name: "ringed_disc",
        covers: disc,
        pattern: rings,
    },
    Class {
        name: "speckled_moon",
        covers: moon,
        pattern: speckles,
    },
    Class {
        name: "striped_bar",
        covers: bar,
        pattern: stripes,
    },
];

fn square(x: f64, y: f64) -> bool {
    x.abs().max(y.abs()) < 0.78
}

fn triangle(x: f64, y: f64) -> bool {
    y < 0.55 && y > 3_f64.sqrt() * x.abs() - 1.0
}

/// Five points.
fn star(x: f64, y: f64) -> bool {
    let fifth = std::f64::consts::TAU / 5.0;
    let angle = (x.atan2(y).rem_euclid(fifth) / fifth - 0.5).abs() * 2.0; // 1 at a point, 0 between.
    x.hypot(y) < 0.38 + 0.62 * angle.powi(2)
}

fn cross(x: f64, y: f64) -> bool {
    let (x, y) = (x.abs(), y.abs());
    x.min(y) < 0.28 && x.max(y) < 0.95
}

fn ring(x: f64, y: f64) -> bool {
    (0.5..0.95).contains(&x.hypot(y))
}

fn disc(x: f64, y: f64) -> bool {
    x.hypot(y) < 0.95
}

/// A disc that another one hides in part.
fn moon(x: f64, y: f64) -> bool {
    x.hypot(y) < 1.0 && (x - 0.55).hypot(y) > 0.75
}

fn bar(x: f64, y: f64) -> bool {
    x.abs() < 1.0 && y.abs() < 0.42
}

fn plain(_: f64, _: f64) -> bool {
    false
}

fn stripes(x: f64, _: f64) -> bool {
    x.rem_euclid(1.0) < 0.5
}

fn checks(x: f64, y: f64) -> bool {
    (x.rem_euclid(1.0) < 0.5) != (y.rem_euclid(1.0) < 0.5)
}

fn dots(x: f64, y: f64) -> bool {
    (x.rem_euclid(1.0) - 0.5).hypot(y.rem_euclid(1.0) - 0.5) < 0.34
}

fn rings(x: f64, y: f64) -> bool {
    x.hypot(y).rem_euclid(1.0) < 0.5
}

/// Cells of a third of a period, some of them dark; a hash of the place, so that it looks random.
fn speckles(x: f64, y: f64) -> bool {
    let cell = |v: f64| (v * 3.0).floor() as i64 as u64;
    let hash =
        (cell(x).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ cell(y)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    hash >> 62 == 0
}
