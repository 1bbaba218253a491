//! Reports on small datasets.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, RecordBatch};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;

use super::*;
use crate::plan::{Layout, PlanConfig};
use crate::shard::{Dataset, Kind};

/// Reports on shards of a hundred images of 100 bytes, in row groups of ten.
fn report(n_shards: usize, lanes: usize, window_chunks: usize) -> Report {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for shard in 0..n_shards {
        let images = BinaryArray::from_iter_values((0..100_u8).map(|row| [row; 100]));
        let batch = RecordBatch::try_from_iter([("image", Arc::new(images) as ArrayRef)]);
        let batch = batch.expect("one column");
        let path = folder.path().join(format!("{shard:02}.parquet"));
        let file = std::fs::File::create(path).expect("a file");
        let properties = WriterProperties::builder()
            .set_dictionary_enabled(false)
            .set_max_row_group_row_count(Some(10))
            .build();
        let writer = ArrowWriter::try_new(file, batch.schema(), Some(properties));
        let mut writer = writer.expect("a writer");
        writer.write(&batch).expect("written");
        writer.close().expect("closed");
    }
    let url = folder.path().to_str().expect("UTF-8");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let dataset = runtime
        .block_on(Dataset::open(url, &[Kind::Image], &[].into()))
        .expect("a dataset");
    let config = PlanConfig {
        seed: 1,
        lanes,
        step: StepSize::Samples(8 * lanes),
        window_chunks,
    };
    let plan = Plan::new(Layout::of(&dataset), config, None).expect("a plan");
    let memory = [1, lanes].map(|world| RankMemory {
        world,
        least_bytes: 3 << 19,
        ahead_bytes: 300 << 20,
    });
    Report::new(&dataset.into(), &plan, memory.to_vec()).expect("a report")
}

#[test]
fn uncut_groups_are_read_once_and_cut_groups_again() {
    let uncut = report(8, 2, 4);
    let dataset = &uncut.datasets[0];
    assert_eq!(
        (dataset.rows, dataset.groups, dataset.chunks),
        (800, 80, 80)
    );
    assert!(!dataset.cuts_groups());
    assert!(dataset.bytes > 80_000 && uncut.cache_bytes() == dataset.bytes);
    // 80 groups in two slices of equal rows: none is cut.
    assert_eq!(
        (dataset.epoch_requests, dataset.epoch_bytes),
        (80, dataset.bytes)
    );
    assert!(uncut.bytes_per_sample() > 100.0 && uncut.bytes_per_sample() < 200.0);
    assert!((uncut.requests_per_sample() - 0.1).abs() < 1e-9);
    assert!(dataset.windows_bytes > 2 * 4 * 1000 && dataset.windows_bytes < 2 * 4 * 10_000);
    // 10 groups over 8 lanes: groups are cut, and read by every lane that has a chunk of them.
    let cut = report(1, 8, 4);
    assert!(cut.datasets[0].cuts_groups() && cut.datasets[0].chunks >= 32);
    let extra = cut.datasets[0].extra_share();
    assert!(extra > 0.5, "{extra}");
    assert!(
        cut.to_string().contains("More chunks than row groups"),
        "{cut}"
    );
}

#[test]
fn wider_windows_shuffle_better_and_cost_memory() {
    let (narrow, wide) = (report(8, 1, 1), report(8, 1, 16));
    assert!(
        narrow.neighbour_group_prob > 0.85,
        "{}",
        narrow.neighbour_group_prob
    );
    assert!(
        wide.neighbour_group_prob < 0.1,
        "{}",
        wide.neighbour_group_prob
    );
    assert!(
        wide.neighbour_shard_prob < 0.3,
        "{}",
        wide.neighbour_shard_prob
    );
    assert!(wide.shards_per_batch > narrow.shards_per_batch + 1.0);
    assert!(wide.datasets[0].windows_bytes > 10 * narrow.datasets[0].windows_bytes);
    assert!((wide.ideal_shard_prob - 1.0 / 8.0).abs() < 1e-9);
    assert!((wide.datasets[0].steps_per_epoch - 100.0).abs() < 1e-9);
}

#[test]
fn report_is_printed_as_aligned_tables_with_units() {
    let text = report(8, 2, 4).to_string();
    let section = |title: &str| -> Vec<String> {
        let lines = text.lines().skip_while(|line| *line != title).skip(1);
        let lines = lines.take_while(|line| line.starts_with("  "));
        lines.map(str::to_owned).collect()
    };
    assert_eq!(
        section("memory per rank (data.memory)"),
        [
            "  ranks   lanes per rank   memory, least   memory to read ahead",
            "      1                2         1.5 MiB              300.0 MiB",
            "      2                1         1.5 MiB              300.0 MiB",
        ]
    );
    assert_eq!(
        section("step"),
        [
            "  lanes               2",
            "  samples per lane    8",
            "  samples per step   16",
        ]
    );
    let datasets = section("one epoch of each dataset");
    let cells: Vec<&str> = datasets[1].split("   ").map(str::trim).collect();
    let cells: Vec<&str> = cells.into_iter().filter(|cell| !cell.is_empty()).collect();
    assert_eq!(
        cells[..7],
        ["data.train", "800", "8", "80", "80", "100.00 %", "50.00"]
    );
    assert!(cells[7].ends_with(" MiB"), "{text}");
    assert_eq!(cells[8..10], ["0.0 %", "80"]);
    // Numbers end where the names of their columns do.
    for name in ["rows", "chunks", "requests"] {
        let end = datasets[0].find(&format!(" {name}  ")).expect(name) + name.len() + 1;
        assert_eq!(datasets[1].as_bytes()[end], b' ', "{text}");
        assert!(datasets[1].as_bytes()[end - 1].is_ascii_digit(), "{text}");
    }
    assert_eq!(section("reads").len(), 3, "{text}");
    let shuffle = text
        .lines()
        .position(|line| line.starts_with("shuffle, measured over"));
    let shuffle: Vec<&str> = text.lines().skip(shuffle.expect("a section") + 1).collect();
    assert_eq!(shuffle.len(), 5, "{text}");
    assert!(
        shuffle.iter().all(|line| line.len() == shuffle[0].len()),
        "{text}"
    );
}
