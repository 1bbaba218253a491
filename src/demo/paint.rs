//! One image: a class's pattern in two colours, at any angle and place, unevenly lit.

use understudy_pipelines::rng::Rng;

use super::SIDE;
use super::patterns::Class;

type Rgb = [f64; 3];

/// Points per pixel and axis whose mean is the pixel.
const SUPERSAMPLE: usize = 3;

/// Standard deviation of the noise of a value, in levels of 255.
const NOISE: f64 = 6.0;

/// One pattern, placed, coloured and lit.
struct Scene<'a> {
    class: &'a Class,
    /// Origin of the pattern, in pixels.
    origin: [f64; 2],
    /// Pixels per period.
    period: f64,
    cos: f64,
    sin: f64,
    colors: [Rgb; 2],
    /// Change of brightness per pixel.
    light: [f64; 2],
}

/// Draws one image, `[SIDE, SIDE, 3]`.
pub(super) fn image(class: &Class, rng: &mut Rng) -> Vec<u8> {
    let scene = Scene::draw(class, rng);
    let mut pixels = Vec::with_capacity(SIDE * SIDE * 3);
    let n_points = SUPERSAMPLE * SUPERSAMPLE;
    for row in 0..SIDE {
        for column in 0..SIDE {
            let mut mean = [0.0; 3];
            for i in 0..n_points {
                let offset = |i: usize| (i as f64 + 0.5) / SUPERSAMPLE as f64;
                let x = column as f64 + offset(i % SUPERSAMPLE);
                let y = row as f64 + offset(i / SUPERSAMPLE);
                let color = scene.color(x, y);
                mean = [0, 1, 2].map(|c| mean[c] + color[c] / n_points as f64);
            }
            pixels.extend(mean.map(|level| (255.0 * level + NOISE * rng.normal()).round() as u8));
        }
    }
    pixels
}

impl<'a> Scene<'a> {
    fn draw(class: &'a Class, rng: &mut Rng) -> Self {
        let (sin, cos) = rng.range(0.0, std::f64::consts::TAU).sin_cos();
        let (light_y, light_x) = rng.range(0.0, std::f64::consts::TAU).sin_cos();
        let contrast = rng.range(0.0, 0.5) / SIDE as f64;
        Self {
            class,
            origin: [(); 2].map(|()| rng.range(0.0, SIDE as f64)),
            period: rng.range(6.0, 9.0),
            cos,
            sin,
            colors: contrasting(rng),
            light: [contrast * light_x, contrast * light_y],
        }
    }

    /// Returns the colour at a point in pixels.
    fn color(&self, x: f64, y: f64) -> Rgb {
        let middle = SIDE as f64 / 2.0;
        let light = 1.0 + self.light[0] * (x - middle) + self.light[1] * (y - middle);
        let (x, y) = (x - self.origin[0], y - self.origin[1]);
        let (x, y) = (self.cos * x + self.sin * y, self.cos * y - self.sin * x);
        let second = (self.class.is_second)(x / self.period, y / self.period);
        self.colors[usize::from(second)].map(|level| level * light)
    }
}

/// Draws any two colours that are easy to distinguish. Their contrast varies widely: were it even, the
/// contrast of a pattern would suffice to find its class among raw pixels.
fn contrasting(rng: &mut Rng) -> [Rgb; 2] {
    loop {
        let colors @ [a, b] = [(); 2].map(|()| [(); 3].map(|()| rng.range(0.0, 1.0)));
        let squared_distance: f64 = (0..3).map(|c| (a[c] - b[c]).powi(2)).sum();
        if squared_distance > 0.09 {
            return colors;
        }
    }
}
