//! One picture: a shaded ground with clutter, and the class's shape on it.

use understudy_pipelines::rng::Rng;

use super::SIDE;
use super::shapes::Class;

type Rgb = [f64; 3];

/// Points per pixel and axis whose mean is the pixel.
const SUPERSAMPLE: usize = 3;

/// Draws one picture, `[SIDE, SIDE, 3]`.
pub(super) fn picture(class: &Class, rng: &mut Rng) -> Vec<u8> {
    let ground = Ground::draw(rng);
    let figure = Figure::draw(class, &ground, rng);
    let mut pixels = Vec::with_capacity(SIDE * SIDE * 3);
    for row in 0..SIDE {
        for column in 0..SIDE {
            let mut sum = [0.0; 3];
            for i in 0..SUPERSAMPLE * SUPERSAMPLE {
                let offset = |i: usize| (i as f64 + 0.5) / SUPERSAMPLE as f64;
                let x = column as f64 + offset(i % SUPERSAMPLE);
                let y = row as f64 + offset(i / SUPERSAMPLE);
                let color = figure.color(x, y).unwrap_or_else(|| ground.color(x, y));
                sum = mix(sum, color, |s, c| {
                    s + c / (SUPERSAMPLE * SUPERSAMPLE) as f64
                });
            }
            pixels.extend(sum.map(|level| (255.0 * level + 6.0 * rng.normal()).round() as u8));
        }
    }
    pixels
}

/// What lies behind: one colour going over into another, with straws strewn on it.
struct Ground {
    from: Rgb,
    to: Rgb,
    /// Of the change, per pixel.
    slope: [f64; 2],
    straws: Vec<Straw>,
}

/// A thin line from `start` to `end`.
struct Straw {
    start: [f64; 2],
    end: [f64; 2],
    color: Rgb,
}

impl Ground {
    fn draw(rng: &mut Rng) -> Self {
        let from = color(rng);
        let other = color(rng);
        let angle = rng.range(0.0, std::f64::consts::TAU);
        let n_straws = rng.below(5);
        let point = |rng: &mut Rng| [(); 2].map(|()| rng.range(0.0, SIDE as f64));
        Self {
            from,
            to: mix(from, other, |a, b| 0.5 * (a + b)),
            slope: [angle.cos() / SIDE as f64, angle.sin() / SIDE as f64],
            straws: (0..n_straws)
                .map(|_| Straw {
                    start: point(rng),
                    end: point(rng),
                    color: color(rng),
                })
                .collect(),
        }
    }

    fn color(&self, x: f64, y: f64) -> Rgb {
        if let Some(straw) = self.straws.iter().find(|straw| straw.covers(x, y)) {
            return straw.color;
        }
        let middle = SIDE as f64 / 2.0;
        let share = 0.5 + self.slope[0] * (x - middle) + self.slope[1] * (y - middle);
        mix(self.from, self.to, |from, to| {
            from + (to - from) * share.clamp(0.0, 1.0)
        })
    }
}

impl Straw {
    fn covers(&self, x: f64, y: f64) -> bool {
        let along = [self.end[0] - self.start[0], self.end[1] - self.start[1]];
        let to = [x - self.start[0], y - self.start[1]];
        let length_squared = along[0].powi(2) + along[1].powi(2);
        let share = ((to[0] * along[0] + to[1] * along[1]) / length_squared).clamp(0.0, 1.0);
        (to[0] - share * along[0]).hypot(to[1] - share * along[1]) < 0.6
    }
}

/// The shape, placed and coloured.
struct Figure<'a> {
    class: &'a Class,
    center: [f64; 2],
    radius: f64,
    cos: f64,
    sin: f64,
    /// Of the surface's pattern, in pixels.
    period: f64,
    colors: [Rgb; 2],
}

impl<'a> Figure<'a> {
    fn draw(class: &'a Class, ground: &Ground, rng: &mut Rng) -> Self {
        let radius = rng.range(8.5, 13.0);
        let (sin, cos) = rng.range(0.0, std::f64::consts::TAU).sin_cos();
        let base = contrasting(&[ground.from, ground.to], rng);
        Self {
            class,
            center: [(); 2].map(|()| rng.range(0.9 * radius, SIDE as f64 - 0.9 * radius)),
            radius,
            cos,
            sin,
            period: rng.range(4.5, 6.5),
            colors: [base, contrasting(&[base, ground.from, ground.to], rng)],
        }
    }

    /// The colour at a point of the picture that the shape covers.
    fn color(&self, x: f64, y: f64) -> Option<Rgb> {
        let (x, y) = (x - self.center[0], y - self.center[1]);
        let (x, y) = (self.cos * x + self.sin * y, self.cos * y - self.sin * x);
        let covered = (self.class.covers)(x / self.radius, y / self.radius);
        let second = (self.class.pattern)(x / self.period, y / self.period);
        covered.then(|| self.colors[usize::from(second)])
    }
}

/// Any colour that leaves room for noise.
fn color(rng: &mut Rng) -> Rgb {
    [(); 3].map(|()| rng.range(0.1, 0.9))
}

/// A colour that a person tells from each of `others`.
fn contrasting(others: &[Rgb], rng: &mut Rng) -> Rgb {
    let distance = |a: Rgb, b: Rgb| mix(a, b, |a, b| (a - b).powi(2)).iter().sum::<f64>().sqrt();
    let nearest = |c: Rgb| {
        others
            .iter()
            .map(|o| distance(c, *o))
            .fold(f64::INFINITY, f64::min)
    };
    // The best of eight draws: always ends, and nearly always far enough.
    let mut best = color(rng);
    for _ in 1..8 {
        let next = color(rng);
        if nearest(next) > nearest(best) {
            best = next;
        }
    }
    best
}

fn mix(a: Rgb, b: Rgb, f: impl Fn(f64, f64) -> f64) -> Rgb {
    [f(a[0], b[0]), f(a[1], b[1]), f(a[2], b[2])]
}
