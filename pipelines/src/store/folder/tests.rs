//! The same checks on a folder of this machine and on one in a store.

use std::fs;
use std::sync::Mutex;

use futures::FutureExt;
use object_store::memory::InMemory;
use object_store::path::Path as ObjectPath;
use object_store::{MultipartUpload, PutPayload, PutResult, UploadPart};

use super::remote::send;
use super::*;

/// A folder in a store of this process.
pub(crate) fn in_memory() -> Folder {
    let set = location("some/set");
    Remote::open(set, &StoreOptions::default()).unwrap().into()
}

fn location(path: &str) -> Location {
    Location {
        store: Arc::new(InMemory::new()),
        prefix: ObjectPath::from(path),
        url: format!("memory://{path}"),
        local: None,
        traffic: Arc::default(),
        lists: true,
    }
}

fn local(folder: &Path) -> Folder {
    Folder::open(
        folder.join("set").to_str().unwrap(),
        &StoreOptions::default(),
    )
    .unwrap()
}

fn check(folder: &Folder, scratch: &Path) {
    assert_eq!(folder.files().unwrap(), []);
    assert_eq!(folder.tree().unwrap(), []);
    assert_eq!(folder.read("a.json").unwrap(), None);
    assert_eq!(folder.size("a.json").unwrap(), None);

    folder.write("a.json", "first").unwrap();
    folder.write("a.json", "again").unwrap();
    folder.write(".write/job.json", "{}").unwrap();
    for name in ["empty", "a.json"] {
        folder.write("empty", "").unwrap();
        let whole = folder.read(name).unwrap();
        assert!(
            whole.is_some() && whole == folder.read_large(name).unwrap(),
            "{name}"
        );
    }
    assert_eq!(folder.read_large("none").unwrap(), None);
    folder.remove(&["empty".to_owned()]).unwrap();
    let shard = scratch.join("shard.tmp");
    fs::write(&shard, "a shard").unwrap();
    folder.take_file("shard-0.parquet", &shard).unwrap();
    assert!(!shard.exists(), "it was moved");

    let named = |name: &str, bytes| (name.to_owned(), bytes);
    let files = [named("a.json", 5), named("shard-0.parquet", 7)];
    assert_eq!(folder.files().unwrap(), files);
    assert_eq!(
        folder.join(".write").files().unwrap(),
        [named("job.json", 2)]
    );
    let tree: Vec<_> = std::iter::once(named(".write/job.json", 2))
        .chain(files)
        .collect();
    assert_eq!(folder.tree().unwrap(), tree);

    let paths = ["shard-0.parquet", "none", "a.json"].map(str::to_owned);
    let read = folder.read_all(&paths).unwrap();
    let expected = [Some("a shard"), None, Some("again")];
    assert_eq!(read, expected.map(|text| text.map(Bytes::from)));
    assert_eq!(folder.size("shard-0.parquet").unwrap(), Some(7));

    folder.remove(&paths).unwrap();
    assert_eq!(folder.tree().unwrap(), [named(".write/job.json", 2)]);
}

#[test]
fn what_is_written_is_read_and_listed() {
    let temporary = tempfile::tempdir().unwrap();
    check(&local(temporary.path()), temporary.path());
    check(&in_memory(), temporary.path());
}

#[test]
fn names_are_as_a_person_would_write_them() {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("set/train/a.json");
    let set = local(temporary.path());
    assert_eq!(set.join("train").url_of("a.json"), path.to_str().unwrap());
    let set = in_memory();
    assert_eq!(
        set.join("train").url_of("a.json"),
        "memory://some/set/train/a.json"
    );
}

#[test]
fn a_folder_lies_in_its_parent() {
    let temporary = tempfile::tempdir().unwrap();
    for set in [local(temporary.path()), in_memory()] {
        set.write("a.json", "{}").unwrap();
        let (parent, name) = set.join("train").parent().unwrap();
        assert_eq!((parent.url(), name), (set.url(), "train".to_owned()));
        assert!(parent.size("a.json").unwrap().is_some());
    }
}

#[test]
fn a_large_file_goes_up_in_parts_and_is_the_same() {
    let temporary = tempfile::tempdir().unwrap();
    let file = temporary.path().join("large");
    // Six parts, the last one short: more than are under way at once.
    let word = |i: u64| i.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes();
    let bytes: Vec<u8> = (0..(5 * (16 << 20) + 1000) / 8).flat_map(word).collect();
    fs::write(&file, &bytes).unwrap();
    let set = in_memory();
    set.take_file("large", &file).unwrap();
    assert!(!file.exists());
    assert!(set.read("large").unwrap().unwrap() == bytes);
    assert!(set.read_large("large").unwrap().unwrap() == bytes);
}

/// Takes parts until number `fails_at`; says how it ended.
#[derive(Debug)]
struct Fragile {
    fails_at: usize,
    n_parts: usize,
    ended: Mutex<Vec<&'static str>>,
}

#[async_trait::async_trait]
impl MultipartUpload for Fragile {
    fn put_part(&mut self, _: PutPayload) -> UploadPart {
        self.n_parts += 1;
        let fails = self.n_parts == self.fails_at;
        let sent = if fails { Err(full()) } else { Ok(()) };
        futures::future::ready(sent).boxed()
    }

    async fn complete(&mut self) -> object_store::Result<PutResult> {
        self.ended.lock().unwrap().push("complete");
        Err(full())
    }

    async fn abort(&mut self) -> object_store::Result<()> {
        self.ended.lock().unwrap().push("abort");
        Ok(())
    }
}

fn full() -> object_store::Error {
    object_store::Error::Generic {
        store: "test",
        source: "full".into(),
    }
}

#[test]
fn a_broken_upload_is_aborted_and_the_file_stays() {
    let temporary = tempfile::tempdir().unwrap();
    let file = temporary.path().join("file");
    fs::write(&file, [7; 10]).unwrap();
    let to = location("file");
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.unwrap();
    for (fails_at, expected) in [(2, vec!["abort"]), (100, vec!["complete", "abort"])] {
        let mut upload = Fragile {
            fails_at,
            n_parts: 0,
            ended: Mutex::default(),
        };
        let sent = runtime.block_on(send(&mut upload, &to, &file, 3));
        assert!(sent.unwrap_err().to_string().contains("full"));
        assert_eq!(upload.ended.into_inner().unwrap(), expected);
    }
    assert!(file.exists());
}
