//! Encodes a square RGB image as BMP: 24 bits, uncompressed.

/// File header (14 bytes) and BITMAPINFOHEADER (40 bytes).
const HEADER_BYTES: usize = 14 + 40;

/// Encodes RGB `pixels` `[side, side, 3]`, rows top to bottom.
pub(super) fn encode(pixels: &[u8], side: usize) -> Vec<u8> {
    assert_eq!(
        pixels.len(),
        side * side * 3,
        "pixels of a square RGB image"
    );
    assert_eq!(side % 4, 0, "rows are padded to 4 bytes; ours need none");
    let mut file = Vec::with_capacity(HEADER_BYTES + pixels.len());
    file.extend(b"BM");
    let mut u32 = |value: usize| file.extend((value as u32).to_le_bytes());
    u32(HEADER_BYTES + pixels.len());
    u32(0); // Reserved.
    u32(HEADER_BYTES); // Where the pixels begin.
    u32(40); // Size of the header that follows.
    u32(side);
    u32(side); // A positive height: rows go bottom to top.
    u32(1 | 24 << 16); // One plane, 24 bits.
    u32(0); // Uncompressed.
    u32(pixels.len());
    for _ in 0..4 {
        u32(0); // Resolution and palette: unset.
    }
    for row in pixels.chunks_exact(side * 3).rev() {
        for rgb in row.chunks_exact(3) {
            file.extend([rgb[2], rgb[1], rgb[0]]);
        }
    }
    file
}

#[cfg(test)]
mod tests {
    #[test]
    fn encode_stores_the_bottom_row_first_in_blue_green_red() {
        let mut pixels = vec![0; 4 * 4 * 3];
        pixels[..3].copy_from_slice(&[1, 2, 3]); // Top left.
        let file = super::encode(&pixels, 4);
        assert_eq!(&file[..6], &[b'B', b'M', 54 + 48, 0, 0, 0]);
        assert_eq!(file[10..14], [54, 0, 0, 0]);
        assert_eq!(file[26..30], [1, 0, 24, 0]);
        assert_eq!(file.len(), 54 + 48);
        assert_eq!(file[54 + 36..54 + 39], [3, 2, 1]);
    }
}
