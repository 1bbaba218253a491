//! `BEiT`'s block-wise mask, as data2vec 1.0 uses it for images.

use crate::rng::Rng;

/// Times that a block is drawn anew before the mask is left as it is.
const N_TRIES: usize = 10;

/// Masks blocks of `min_area` patches or more, with height / width in `min_aspect` and its
/// inverse, until `n_masked` patches are masked or no block fits.
///
/// A mask may so end up short of `n_masked`: with `BEiT`'s settings 70 % reach it, the mean is half
/// a patch below.
pub(super) fn draw(
    grid: usize,
    n_masked: usize,
    min_area: usize,
    min_aspect: f64,
    rng: &mut Rng,
    mask: &mut [u8],
) {
    mask.fill(0);
    let mut left = n_masked;
    while left > 0 {
        let newly_masked = mask_one_block(grid, left, min_area, min_aspect, rng, mask);
        if newly_masked == 0 {
            return;
        }
        left -= newly_masked;
    }
}

/// Masks one block that adds at most `left` patches; gives how many it added, 0 if none fitted.
fn mask_one_block(
    grid: usize,
    left: usize,
    min_area: usize,
    min_aspect: f64,
    rng: &mut Rng,
    mask: &mut [u8],
) -> usize {
    let widest = -min_aspect.ln();
    for _ in 0..N_TRIES {
        // Near the end `left` is below `min_area`: the areas then lie between the two, and a block
        // still fits by lying partly on patches that are masked already.
        let area = rng.range(min_area as f64, left as f64);
        let aspect = rng.range(-widest, widest).exp();
        let height = (area * aspect).sqrt().round_ties_even() as usize;
        let width = (area / aspect).sqrt().round_ties_even() as usize;
        if height >= grid || width >= grid {
            continue;
        }
        let top = rng.below(grid - height + 1);
        let first = rng.below(grid - width + 1);
        let block =
            || (top..top + height).map(|row| row * grid + first..row * grid + first + width);
        let already_masked: usize = block()
            .flat_map(|row| &mask[row])
            .map(|&one| usize::from(one))
            .sum();
        let newly_masked = height * width - already_masked;
        if (1..=left).contains(&newly_masked) {
            block().for_each(|row| mask[row].fill(1));
            return newly_masked;
        }
    }
    0
}
