//! Columns of every type, in every format and codec.

use ::parquet::basic::ZstdLevel;

use super::*;

#[test]
fn uncompressed_parquet_is_read_without_copying_media() {
    let folder = folder();
    let path = folder.path().join("a.parquet");
    write_parquet(
        &path,
        &with_classes(&our_batch(), r#"["cat", "dog"]"#),
        Compression::UNCOMPRESSED,
    );
    let dataset = open(folder.path(), &MAP).expect("a dataset");
    assert_eq!((dataset.rows, dataset.shards[0].groups.len()), (10, 3));
    assert_eq!(
        dataset.classes,
        Some(vec!["cat".to_owned(), "dog".to_owned()])
    );
    let groups = assert_images(&dataset);
    for row in 0..ROWS {
        let group = &groups[row / 4];
        assert_eq!(
            group.xxh3(row % 4),
            image_bytes(row).map(|bytes| xxh3_64(&bytes))
        );
        assert_eq!(group.label(row % 4), Ok(Some(row as i64 % 2)));
        assert_eq!(group.path(row % 4), Some(format!("{row}.jpg").as_str()));
    }
    // A copy of the media would double it.
    let (held, listed) = (groups[1].memory(), &dataset.shards[0].groups[1]);
    assert!(
        (4 * 1000..2 * 4 * 1000).contains(&held),
        "{held} bytes for 4 images of 1 kB"
    );
    assert!(
        held <= listed.memory,
        "{held} bytes held, {} planned",
        listed.memory
    );
}

#[test]
fn every_codec_and_binary_type_is_read() {
    let folder = folder();
    let path = folder.path().join("a.parquet");
    for compression in [
        Compression::SNAPPY,
        Compression::ZSTD(ZstdLevel::default()),
        Compression::LZ4_RAW,
    ] {
        write_parquet(&path, &our_batch(), compression);
        let dataset = open(&path, &MAP).expect("a dataset");
        let groups = assert_images(&dataset);
        assert!(groups[0].memory() <= dataset.shards[0].groups[0].memory);
    }
    for data_type in [
        DataType::Binary,
        DataType::LargeBinary,
        DataType::BinaryView,
    ] {
        let image = cast(&images(0..ROWS), &data_type).expect("a binary type");
        let batch = batch(vec![("image", image)]);
        write_parquet(&path, &batch, Compression::UNCOMPRESSED);
        let groups = assert_images(&open(&path, &MAP).expect("a dataset"));
        assert_eq!(groups[0].label(0), Ok(None));
        assert_eq!((groups[0].xxh3(0), groups[0].path(0)), (None, None));
        for stream in [false, true] {
            let path = folder.path().join("a.arrow");
            write_arrow(&path, &batch, stream, None);
            assert_images(&open(&path, &MAP).expect("a dataset"));
        }
    }
}

#[test]
fn arrow_files_and_streams_are_read() {
    let folder = folder();
    let path = folder.path().join("a.arrow");
    let batch = with_classes(&our_batch(), r#"["cat", "dog"]"#);
    for stream in [false, true] {
        for compression in [
            None,
            Some(CompressionType::LZ4_FRAME),
            Some(CompressionType::ZSTD),
        ] {
            write_arrow(&path, &batch, stream, compression);
            let dataset = open(&path, &MAP).expect("a dataset");
            assert_eq!(dataset.classes.as_ref().map(Vec::len), Some(2));
            let groups = assert_images(&dataset);
            assert_eq!(groups[2].label(1), Ok(Some(1)));
            assert_eq!(groups[2].path(1), Some("9.jpg"));
            if compression.is_none() {
                assert!(
                    groups[1].memory() < 2 * 4 * 1000,
                    "{} bytes",
                    groups[1].memory()
                );
            }
        }
    }
}

#[test]
fn dictionaries_are_read_even_if_a_stream_replaces_them() {
    let folder = folder();
    let dictionary =
        |names: [&str; 4]| -> ArrayRef { Arc::new(DictionaryArray::<Int32Type>::from_iter(names)) };
    let part = |from: usize, names: [&str; 4]| {
        batch(vec![
            ("image", images(from..from + 4)),
            ("label", dictionary(names)),
        ])
    };
    let parts = [
        part(4, ["cat", "dog", "cat", "dog"]),
        part(0, ["dog", "dog", "ant", "dog"]),
    ];
    let schema = with_classes(&parts[0], r#"["ant", "cat", "dog"]"#).schema();
    let path = folder.path().join("a.arrow");
    let file = std::fs::File::create(&path).expect("a file");
    let mut writer = StreamWriter::try_new(file, &schema).expect("a writer");
    for part in &parts {
        writer.write(part).expect("written");
    }
    writer.finish().expect("finished");
    let groups = read_all(&open(&path, &MAP).expect("a dataset"));
    let labels: Vec<_> = groups
        .iter()
        .flat_map(|g| (0..4).map(|row| g.label(row)))
        .collect();
    assert_eq!(
        labels,
        [1, 2, 1, 2, 2, 2, 0, 2].map(|label| Ok(Some(label)))
    );

    let path = folder.path().join("a.parquet");
    let batch = with_classes(&parts[1], r#"["ant", "cat", "dog"]"#);
    let file = std::fs::File::create(&path).expect("a file");
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).expect("a writer");
    writer.write(&batch).expect("written");
    writer.close().expect("closed");
    let group = read_all(&open(&path, &MAP).expect("a dataset")).remove(0);
    assert_eq!(
        (0..4).map(|row| group.label(row)).collect::<Vec<_>>(),
        [2, 2, 0, 2].map(|n| Ok(Some(n)))
    );
    assert_eq!(group.bytes(1), image_bytes(1).as_deref());
}

#[test]
fn labels_of_any_integer_width_are_read_and_bad_labels_are_sample_errors() {
    let folder = folder();
    let path = folder.path().join("a.parquet");
    for data_type in [
        DataType::UInt8,
        DataType::Int16,
        DataType::Int32,
        DataType::UInt64,
    ] {
        let label = cast(&labels(0..ROWS), &data_type).expect("a number");
        write_parquet(
            &path,
            &batch(vec![("image", images(0..ROWS)), ("y", label)]),
            Compression::SNAPPY,
        );
        let group = read_all(&open(&path, &[("label", "y")]).expect("a dataset")).remove(0);
        assert_eq!(group.label(1), Ok(Some(1)));
    }
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(0), Some(2), Some(-1), None]));
    let labelled = batch(vec![("image", images(0..4)), ("label", numbers)]);
    write_parquet(
        &path,
        &with_classes(&labelled, r#"["cat", "dog"]"#),
        Compression::SNAPPY,
    );
    let group = read_all(&open(&path, &MAP).expect("a dataset")).remove(0);
    let label = |text: &str| Err(SampleError::Label(text.to_owned()));
    assert_eq!(group.label(0), Ok(Some(0)));
    assert_eq!(group.label(1), label("2 is not in the dataset's 2 classes"));
    assert_eq!(
        group.label(2),
        label("-1 is not in the dataset's 2 classes")
    );
    assert_eq!(group.label(3), label("is null"));

    let names: ArrayRef = Arc::new(StringArray::from(vec!["dog", "cow"]));
    let named = batch(vec![("image", images(0..2)), ("label", names)]);
    write_parquet(
        &path,
        &with_classes(&named, r#"["cat", "dog"]"#),
        Compression::SNAPPY,
    );
    let group = read_all(&open(&path, &MAP).expect("a dataset")).remove(0);
    assert_eq!(group.label(0), Ok(Some(1)));
    assert_eq!(
        group.label(1),
        label("`cow` is not one of the dataset's classes")
    );
    write_parquet(&path, &named, Compression::SNAPPY);
    let group = read_all(&open(&path, &MAP).expect("a dataset")).remove(0);
    assert_eq!(
        group.label(0),
        label("`dog` has no number: the dataset has no list of class names")
    );
}

#[test]
fn only_the_mapped_columns_are_fetched() {
    let folder = folder();
    let path = folder.path().join("a.parquet");
    // More than the gap over which reads are joined, and hard to compress.
    let noise = |row: u64| {
        (0..1_u64 << 17)
            .flat_map(|at| xxh3_64(&[row, at].map(u64::to_le_bytes).concat()).to_le_bytes())
            .collect::<Vec<u8>>()
    };
    let large: ArrayRef = Arc::new(BinaryArray::from_iter_values((0..4).map(noise)));
    let wide = batch(vec![
        ("a", large.clone()),
        ("image", image_struct(0..4)),
        ("b", large),
        ("label", labels(0..4)),
    ]);
    write_parquet(&path, &wide, Compression::UNCOMPRESSED);
    let dataset = open(&path, &MAP).expect("a dataset");
    let group = &dataset.shards[0].groups[0];
    assert!(
        group.bytes > 8 << 20 && group.fetch_bytes < 10_000,
        "{group:?}"
    );
    let rows = read_all(&dataset).remove(0);
    assert!(
        rows.memory() <= group.memory && group.memory < 20_000,
        "{}",
        rows.memory()
    );
    assert_eq!(
        (rows.bytes(1), rows.label(1)),
        (image_bytes(1).as_deref(), Ok(Some(1)))
    );
}

#[test]
fn group_memory_counts_gaps_between_columns_and_decompressed_bytes() {
    let folder = folder();
    let path = folder.path().join("a.parquet");
    let noise = |row: u64| {
        (0..1_u64 << 13)
            .flat_map(|at| xxh3_64(&[row, at].map(u64::to_le_bytes).concat()).to_le_bytes())
            .collect::<Vec<u8>>()
    };
    // Less than the gap over which reads are joined.
    let between: ArrayRef = Arc::new(BinaryArray::from_iter_values((0..4).map(noise)));
    let wide = batch(vec![
        ("image", image_struct(0..4)),
        ("between", between),
        ("label", labels(0..4)),
    ]);
    write_parquet(&path, &wide, Compression::UNCOMPRESSED);
    let dataset = open(&path, &MAP).expect("a dataset");
    let group = &dataset.shards[0].groups[0];
    assert!(group.fetch_bytes > 4 << 16, "{group:?}");
    assert!(read_all(&dataset)[0].memory() <= group.memory);

    let flat = BinaryArray::from_iter_values((0..4).map(|_| vec![7; 1 << 20]));
    let flat = batch(vec![("image", Arc::new(flat) as ArrayRef)]);
    let path = folder.path().join("a.arrow");
    for compression in [CompressionType::ZSTD, CompressionType::LZ4_FRAME] {
        for stream in [false, true] {
            write_arrow(&path, &flat, stream, Some(compression));
            let dataset = open(&path, &MAP).expect("a dataset");
            let group = &dataset.shards[0].groups[0];
            assert!(group.fetch_bytes < 1 << 20, "{group:?}");
            assert!(group.memory > 4 << 20, "{group:?}");
            assert!(read_all(&dataset)[0].memory() <= group.memory);
        }
    }
}

#[test]
fn checked_rejects_a_label_that_differs_from_its_hash() {
    let folder = folder();
    let path = folder.path().join("a.parquet");
    let hashes = |row| image_bytes(row).map(|bytes| xxh3_64(&bytes));
    let written: Int64Array = (0..ROWS)
        .map(|row| (row != 5).then_some(row as i64 % 2))
        .collect();
    let of_labels = (0..ROWS).map(|row| {
        let label = (row != 5).then(|| written.value(row));
        Some(hash_of_label(label, hashes(row)?))
    });
    let of_labels: UInt64Array = of_labels.collect();
    let check = |labels: Int64Array, wrong: &[usize]| {
        let rows = batch(vec![
            ("image", image_struct(0..ROWS)),
            ("label", Arc::new(labels)),
            (
                "bytes_xxh3",
                Arc::new((0..ROWS).map(hashes).collect::<UInt64Array>()),
            ),
            ("label_xxh3", Arc::new(of_labels.clone())),
        ]);
        write_parquet(&path, &rows, Compression::UNCOMPRESSED);
        let groups = read_all(&open(&path, &MAP).expect("a dataset"));
        for row in (0..ROWS).filter(|&row| image_bytes(row).is_some()) {
            let is_wrong = matches!(
                groups[row / 4].checked(row % 4),
                Err(SampleError::Hash { .. })
            );
            assert_eq!(is_wrong, wrong.contains(&row), "row {row}");
        }
    };
    check(written.clone(), &[]);
    let mut labels: Vec<Option<i64>> = written.iter().collect();
    labels[2] = Some(1);
    labels[5] = Some(0);
    labels[7] = None;
    check(labels.into(), &[2, 5, 7]);
    // Another column in the label's place has no hash of its own.
    let named = open(&path, &[("label", "bytes_xxh3")]).expect("a dataset");
    assert!(read_all(&named)[0].checked(2).is_ok());
}
