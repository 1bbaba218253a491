//! The demo and its own images: synthetic, rendered here, so that `understudy demo` downloads
//! nothing.
//!
//! Eight classes of patterns in any two colours, at any angle, place and scale, unevenly lit.
//! Colour and place are independent of the class, so images with similar pixels are seldom of one
//! class.

mod bmp;
mod paint;
mod patterns;
mod run;

use std::io;
use std::path::Path;

use understudy_pipelines::rng::{Purpose, Rng};

pub use patterns::CLASSES;
pub use run::{DemoError, run, write_dataset};

/// Side of every image, in pixels.
pub const SIDE: usize = 32;

/// Renders `n_train` images into `folder/train/CLASS/` and `n_val` into `folder/val/CLASS/`, as BMP
/// files, the classes in turn.
///
/// Every byte is a function of `seed` and the file's name. Existing files are overwritten.
pub fn render(folder: &Path, seed: u64, n_train: usize, n_val: usize) -> io::Result<()> {
    for (split, n) in [("train", n_train), ("val", n_val)] {
        for class in &CLASSES {
            std::fs::create_dir_all(folder.join(split).join(class.name))?;
        }
        for i in 0..n {
            let class = &CLASSES[i % CLASSES.len()];
            let name = format!("{split}/{}/{:05}.bmp", class.name, i / CLASSES.len());
            let mut rng = Rng::for_name(seed, Purpose::Init, &name);
            let pixels = paint::image(class, &mut rng);
            std::fs::write(folder.join(&name), bmp::encode(&pixels, SIDE))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};
    use std::fs;

    /// Path relative to `folder` → bytes, of every file under it.
    fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
        let mut found = BTreeMap::new();
        for split in ["train", "val"] {
            for class in fs::read_dir(folder.join(split)).expect("a split").flatten() {
                for file in fs::read_dir(class.path()).expect("a class").flatten() {
                    let path = file.path();
                    let name = path
                        .strip_prefix(folder)
                        .expect("inside")
                        .display()
                        .to_string();
                    found.insert(name, fs::read(path).expect("an image"));
                }
            }
        }
        found
    }

    #[test]
    fn render_depends_on_the_seed_alone() {
        let folders = [(); 3].map(|()| tempfile::tempdir().expect("a folder"));
        render(folders[0].path(), 1, 20, 9).expect("renders");
        render(folders[1].path(), 1, 20, 9).expect("renders");
        render(folders[2].path(), 2, 20, 9).expect("renders");
        let [a, b, c] = folders.each_ref().map(|folder| files(folder.path()));
        assert_eq!(a, b);
        assert_eq!(a.keys().collect::<Vec<_>>(), c.keys().collect::<Vec<_>>());
        assert!(a.iter().all(|(name, bytes)| c[name] != *bytes));
    }

    #[test]
    fn render_balances_classes_and_repeats_no_image() {
        let folder = tempfile::tempdir().expect("a folder");
        render(folder.path(), 1, 48, 16).expect("renders");
        let files = files(folder.path());
        for class in &CLASSES {
            let n = |split: &str| {
                files
                    .keys()
                    .filter(|name| name.starts_with(&format!("{split}/{}/", class.name)))
                    .count()
            };
            assert_eq!((n("train"), n("val")), (6, 2), "{}", class.name);
        }
        assert_eq!(files.values().collect::<BTreeSet<_>>().len(), 64);
    }

    #[test]
    fn classes_are_in_the_order_of_their_folders() {
        assert!(CLASSES.windows(2).all(|pair| pair[0].name < pair[1].name));
    }

    #[test]
    fn render_reports_a_folder_that_cannot_be_made() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        assert!(render(file.path(), 1, 8, 8).is_err());
    }
}
