//! The demo's own picture set: synthetic, rendered here, so that `understudy demo` needs no
//! download.
//!
//! Eight classes of textured shapes at any place, size, angle and colour, on shaded and cluttered
//! grounds. Colour and place say nothing about the class, so that pictures near each other in
//! pixels are seldom of one class.

mod bmp;
mod paint;
mod run;
mod shapes;

use std::io;
use std::path::Path;

use understudy_pipelines::rng::{Purpose, Rng};

pub use run::{run, write_set};
pub use shapes::CLASSES;

/// Side of every picture, in pixels.
pub const SIDE: usize = 32;

/// Renders `n_train` pictures into `folder/train/CLASS/` and `n_val` into `folder/val/CLASS/`,
/// as BMP files, the classes in turn.
///
/// Every byte depends on `seed` and the file's name alone. Files that are already there are
/// overwritten.
pub fn render(folder: &Path, seed: u64, n_train: usize, n_val: usize) -> io::Result<()> {
    for (split, n) in [("train", n_train), ("val", n_val)] {
        for class in &CLASSES {
            std::fs::create_dir_all(folder.join(split).join(class.name))?;
        }
        for i in 0..n {
            let class = &CLASSES[i % CLASSES.len()];
            let name = format!("{split}/{}/{:05}.bmp", class.name, i / CLASSES.len());
            let mut rng = Rng::for_name(seed, Purpose::Init, &name);
            let pixels = paint::picture(class, &mut rng);
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
                    found.insert(name, fs::read(path).expect("a picture"));
                }
            }
        }
        found
    }

    #[test]
    fn a_set_depends_on_its_seed_alone() {
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
    fn classes_are_even_and_no_picture_comes_twice() {
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
    fn classes_stand_in_the_order_of_their_folders() {
        assert!(CLASSES.windows(2).all(|pair| pair[0].name < pair[1].name));
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_an_error() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        assert!(render(file.path(), 1, 8, 8).is_err());
    }
}
