//! Streams bytes in object storage into masked batches in host memory.
//!
//! A [`Pipeline`](pipeline::Pipeline) streams shards (Parquet or Arrow IPC, written by `shards write` or
//! by other programs), decodes, crops and masks samples on a pool of threads, and returns
//! [`Batch`](batch::Batch)es: plain buffers and shapes, for any trainer. The content of each batch is a
//! pure function of the data, the seed and the step, for any number of threads and ranks; so a run
//! resumes from its step alone.
//!
//! # Example: a training loop
//!
//! ```
//! use understudy_pipelines::DataConfig;
//! use understudy_pipelines::batch::Media;
//! use understudy_pipelines::pipeline::{Options, Pipeline};
//!
//! # fn example_dataset(folder: &std::path::Path) -> Result<(), Box<dyn std::error::Error>> {
//! #     use std::{io::Cursor, sync::Arc};
//! #     use arrow::array::{ArrayRef, BinaryArray, RecordBatch};
//! #     let png = |i: u8| {
//! #         let image = image::RgbImage::from_fn(48, 40, |x, y| image::Rgb([x as u8 * 5, y as u8 * 6, i]));
//! #         let mut bytes = Cursor::new(Vec::new());
//! #         image.write_to(&mut bytes, image::ImageFormat::Png).expect("PNG");
//! #         Some(bytes.into_inner())
//! #     };
//! #     let images: BinaryArray = (0..50).map(png).collect();
//! #     let rows = RecordBatch::try_from_iter([("img", Arc::new(images) as ArrayRef)])?;
//! #     std::fs::create_dir_all(folder)?;
//! #     let file = std::fs::File::create(folder.join("0.parquet"))?;
//! #     let mut writer = parquet::arrow::ArrowWriter::try_new(file, rows.schema(), None)?;
//! #     writer.write(&rows)?;
//! #     writer.close()?;
//! #     Ok(())
//! # }
//! # let folder = tempfile::tempdir()?;
//! # example_dataset(&folder.path().join("train"))?;
//! // The table [data] of a config. `train` is a folder of shards: those of `shards write`, or any
//! // Parquet files with encoded images in a column.
//! let config: DataConfig = toml::from_str(
//!     r#"
//!     train = "train"
//!     columns = { image = "img" }    # only if the column has another name
//!     seed = 1
//!     batch = 8                      # samples per step, over all ranks
//!     lanes = 4                      # divides the batch; ranks divide it
//!     window_chunks = 4              # row groups that are shuffled together
//!     memory = "64MiB"               # for all buffers together
//!     max_bad_fraction = 0.01
//!
//!     [image]
//!     size = 32
//!     crop_scale = [0.35, 1.0]
//!     crop_ratio = [0.75, 1.333]
//!     filter = "bicubic"
//!     flip_prob = 0.5
//!     color_jitter = 0.0
//!     eval_resize = 36
//!     mean = [0.485, 0.456, 0.406]
//!     std = [0.229, 0.224, 0.225]
//!
//!     [mask.inverse_block]           # as in data2vec 2.0; or beit_block
//!     grid = 8
//!     n_masks = 4
//!     mask_prob = 0.75
//!     mask_prob_adjust = 0.1
//!     block = 2
//!     "#,
//! )?;
//! # let config = DataConfig { train: folder.path().join("train").display().to_string().into(), ..config };
//!
//! // The stream is endless: the trainer decides when to stop.
//! let mut batches = Pipeline::train(&config, &Options::default())?;
//! for batch in batches.by_ref().take(3) {
//!     let batch = batch?;
//!     let Media::Images { pixels, .. } = &batch.media else { unreachable!("a dataset of images") };
//!     assert_eq!(pixels.len(), batch.n_samples * 32 * 32 * 3);       // [B, S, S, 3], u8
//!     assert_eq!(batch.masks.len(), batch.n_samples * 4 * 64);       // [B * M, P], 1 = masked
//!     for (sample, masks) in batch.samples.iter().zip(batch.masks.chunks(4 * 64)) {
//!         let n_masked = masks.iter().filter(|&&masked| masked == 1).count();
//!         println!("epoch {} row {}: {n_masked} patches masked", sample.epoch, sample.row);
//!     }
//! }
//!
//! // The stage that limits the throughput, and the times behind that verdict.
//! let stats = batches.stats();
//! println!("{}", stats.verdict());
//! for stage in &stats.stages {
//!     println!("{}: {} runs, median {:.6} s", stage.name, stage.count, stage.p50_secs);
//! }
//!
//! // A checkpoint stores the step and the bad rows; with them the stream resumes exactly.
//! let (start_step, bad_rows, short_rows) = (3, batches.bad_rows(), batches.short_rows());
//! drop(batches);
//! let resumed = Options { start_step, bad_rows, short_rows, ..Options::default() };
//! let next = Pipeline::train(&config, &resumed)?.next().expect("a training stream has no end")?;
//! assert_eq!(next.step, 3);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Several processes share a dataset by [`Options`](pipeline::Options)`::{rank, world}`.
//! [`Pipeline::evaluate`](pipeline::Pipeline::evaluate) starts one finite pass with labels.

pub mod batch;
pub mod bench;
mod budget;
pub mod config;
pub mod decode;
pub mod error;
pub mod inspect;
pub mod limits;
pub mod mask;
pub mod pipeline;
pub mod plan;
pub mod quarantine;
pub mod rng;
pub mod shard;
pub mod stats;
pub mod store;
pub mod tokenize;
pub mod transform;
pub mod verify;
pub mod write;

pub use config::DataConfig;
pub use error::{Error, Result, SampleError};
