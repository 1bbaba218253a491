//! Tests of local folders and of folders in a store.

use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use futures::FutureExt;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path as ObjectPath;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, UploadPart,
};

use super::*;

/// Makes an empty folder in a store in memory.
pub(crate) fn in_memory() -> Folder {
    let dataset = location("some/set");
    Remote::open(dataset, &StoreOptions::default())
        .unwrap()
        .into()
}

fn location(path: &str) -> Location {
    Location {
        store: Arc::new(InMemory::new()),
        prefix: ObjectPath::from(path),
        url: format!("memory://{path}"),
        local: None,
        traffic: Arc::default(),
        lists: true,
        cache: None,
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
fn written_files_are_read_and_listed() {
    let temporary = tempfile::tempdir().unwrap();
    check(&local(temporary.path()), temporary.path());
    check(&in_memory(), temporary.path());
}

#[test]
fn url_of_returns_paths_and_urls_as_the_user_writes_them() {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("set/train/a.json");
    let dataset = local(temporary.path());
    assert_eq!(
        dataset.join("train").url_of("a.json"),
        path.to_str().unwrap()
    );
    let dataset = in_memory();
    assert_eq!(
        dataset.join("train").url_of("a.json"),
        "memory://some/set/train/a.json"
    );
}

#[test]
fn parent_returns_folder_and_name() {
    let temporary = tempfile::tempdir().unwrap();
    for dataset in [local(temporary.path()), in_memory()] {
        dataset.write("a.json", "{}").unwrap();
        let (parent, name) = dataset.join("train").parent().unwrap();
        assert_eq!((parent.url(), name), (dataset.url(), "train".to_owned()));
        assert!(parent.size("a.json").unwrap().is_some());
    }
}

#[test]
fn large_file_is_uploaded_in_parts() {
    let temporary = tempfile::tempdir().unwrap();
    let file = temporary.path().join("large");
    // Six parts, the last one short: more than are in flight at once.
    let word = |i: u64| i.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes();
    let bytes: Vec<u8> = (0..(5 * (16 << 20) + 1000) / 8).flat_map(word).collect();
    fs::write(&file, &bytes).unwrap();
    let dataset = in_memory();
    dataset.take_file("large", &file).unwrap();
    assert!(!file.exists());
    assert!(dataset.read("large").unwrap().unwrap() == bytes);
    assert!(dataset.read_large("large").unwrap().unwrap() == bytes);
}

/// A store whose first uploads fail, and that rejects conditional writes.
#[derive(Debug)]
struct Fragile {
    inner: InMemory,
    /// Uploads that will fail, the last entry first.
    failures: Mutex<Vec<UploadFailure>>,
    aborted: Arc<AtomicUsize>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum UploadFailure {
    Part(usize),
    Completion,
}

#[derive(Debug)]
struct FragileUpload {
    inner: Box<dyn MultipartUpload>,
    failure: Option<UploadFailure>,
    n_parts: usize,
    aborted: Arc<AtomicUsize>,
}

#[async_trait::async_trait]
impl MultipartUpload for FragileUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.n_parts += 1;
        if self.failure == Some(UploadFailure::Part(self.n_parts)) {
            return futures::future::ready(Err(full())).boxed();
        }
        self.inner.put_part(data)
    }

    async fn complete(&mut self) -> object_store::Result<PutResult> {
        if self.failure == Some(UploadFailure::Completion) {
            return Err(full());
        }
        self.inner.complete().await
    }

    async fn abort(&mut self) -> object_store::Result<()> {
        self.aborted.fetch_add(1, Relaxed);
        self.inner.abort().await
    }
}

impl std::fmt::Display for Fragile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait::async_trait]
impl ObjectStore for Fragile {
    async fn put_opts(
        &self,
        path: &ObjectPath,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        assert_eq!(options.mode, PutMode::Overwrite, "a condition on {path}");
        self.inner.put_opts(path, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        path: &ObjectPath,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        Ok(Box::new(FragileUpload {
            inner: self.inner.put_multipart_opts(path, options).await?,
            failure: self.failures.lock().unwrap().pop(),
            n_parts: 0,
            aborted: self.aborted.clone(),
        }))
    }

    async fn get_opts(
        &self,
        path: &ObjectPath,
        options: GetOptions,
    ) -> object_store::Result<GetResult> {
        self.inner.get_opts(path, options).await
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, object_store::Result<ObjectPath>>,
    ) -> BoxStream<'static, object_store::Result<ObjectPath>> {
        self.inner.delete_stream(paths)
    }

    fn list(
        &self,
        prefix: Option<&ObjectPath>,
    ) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(
        &self,
        prefix: Option<&ObjectPath>,
    ) -> object_store::Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(
        &self,
        from: &ObjectPath,
        to: &ObjectPath,
        options: CopyOptions,
    ) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

fn full() -> object_store::Error {
    object_store::Error::Generic {
        store: "test",
        source: "full".into(),
    }
}

/// Uploads a file of three parts to a store with these failures. Returns the result, the size of the
/// object, and the number of aborted uploads.
fn send(failures: &[UploadFailure], retry_for: Duration) -> (Result<()>, Option<usize>, usize) {
    let temporary = tempfile::tempdir().unwrap();
    let file = temporary.path().join("file");
    fs::write(&file, vec![7; 40 << 20]).unwrap();
    let aborted = Arc::new(AtomicUsize::new(0));
    let store = Fragile {
        inner: InMemory::new(),
        failures: Mutex::new(failures.to_vec()),
        aborted: aborted.clone(),
    };
    let location = Location {
        store: Arc::new(store),
        ..location("set")
    };
    let options = StoreOptions {
        retry_for,
        ..StoreOptions::default()
    };
    let dataset: Folder = Remote::open(location, &options).unwrap().into();
    dataset.write("small", "small").unwrap();
    let taken = dataset.take_file("large", &file);
    assert_eq!(
        taken.is_err(),
        file.exists(),
        "the local file remains after an error only"
    );
    let there = dataset.read("large").unwrap().map(|bytes| bytes.len());
    (taken, there, aborted.load(Relaxed))
}

#[test]
fn failed_upload_is_aborted_and_restarted() {
    let failures = [UploadFailure::Part(2), UploadFailure::Completion];
    let (taken, there, aborted) = send(&failures, Duration::from_mins(1));
    taken.unwrap();
    assert_eq!((there, aborted), (Some(40 << 20), 2));

    let (taken, there, aborted) = send(&failures, Duration::ZERO);
    assert!(taken.unwrap_err().to_string().contains("full"));
    assert_eq!((there, aborted), (None, 1));
}
