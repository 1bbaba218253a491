//! Datasets of audio, texts and tokens.

use ::arrow::array::{FixedSizeBinaryArray, Int32Array};

use super::*;

fn open_as(path: &Path, kinds: &[Kind], map: &[(&str, &str)]) -> Result<Dataset> {
    let map: BTreeMap<String, String> = map
        .iter()
        .map(|&(ours, theirs)| (ours.to_owned(), theirs.to_owned()))
        .collect();
    block_on(Dataset::open(path.to_str().expect("UTF-8"), kinds, &map))
}

fn numbers(values: &[i32]) -> ArrayRef {
    Arc::new(Int32Array::from(values.to_vec()))
}

fn tokens() -> RecordBatch {
    let blocks = (0..ROWS as u16).map(|row| [row.to_le_bytes(), [1, 0]].concat());
    let blocks = FixedSizeBinaryArray::try_from_iter(blocks).expect("equal blocks");
    let rows = batch(vec![
        ("tokens", Arc::new(blocks)),
        ("n_tokens", numbers(&[1; ROWS])),
    ]);
    let info = Vocabulary {
        name: "test".into(),
        vocab_size: 20,
        bos: 0,
        pad: 1,
        eos: 2,
        unk: 3,
        mask: 19,
        width_bytes: 2,
        block_tokens: 2,
        sha256: String::new(),
    };
    let json = serde_json::to_string(&info).expect("JSON");
    let metadata = std::collections::HashMap::from([(TOKENIZER_KEY.to_owned(), json)]);
    let schema = rows.schema().as_ref().clone().with_metadata(metadata);
    rows.with_schema(Arc::new(schema))
        .expect("the same columns")
}

#[test]
fn open_takes_the_first_kind_whose_media_column_exists() {
    let folder = folder();
    let path = folder.path().join("a.parquet");
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["a text"; 4]));
    let both = batch(vec![("audio", image_struct(0..4)), ("text", texts)]);
    write_parquet(&path, &both, Compression::SNAPPY);
    let kind = |kinds: &[Kind], map: &[(&str, &str)]| {
        open_as(&path, kinds, map).map(|dataset| dataset.kind)
    };
    assert_eq!(kind(&Kind::ALL, &MAP).expect("a dataset"), Kind::Audio);
    assert_eq!(
        kind(&[Kind::Tokens, Kind::Text], &MAP).expect("a dataset"),
        Kind::Text
    );
    assert_eq!(
        kind(&Kind::ALL, &[("image", "audio")]).expect("a dataset"),
        Kind::Image
    );
    let text = kind(&[Kind::Image, Kind::Tokens], &MAP)
        .expect_err("none")
        .to_string();
    assert!(
        text.contains("not found; the file has audio, text"),
        "{text}"
    );
    let text = kind(&[Kind::Image], &[]).expect_err("audio").to_string();
    assert!(text.contains("this dataset has `audio`"), "{text}");
    let text = kind(&[Kind::Audio], &[("text", "text")])
        .expect_err("other")
        .to_string();
    assert!(text.contains("there are audio, label"), "{text}");
    let rows = read_all(&open_as(&path, &[Kind::Audio], &MAP).expect("a dataset")).remove(0);
    assert_eq!(
        (rows.bytes(1), rows.path(1)),
        (image_bytes(1).as_deref(), Some("1.jpg"))
    );
}

#[test]
fn strings_of_every_type_are_read_as_bytes() {
    let folder = folder();
    let strings: ArrayRef = Arc::new(StringArray::from(vec![
        Some("one"),
        None,
        Some("zwölf"),
        Some(""),
    ]));
    let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    for data_type in [
        DataType::Utf8,
        DataType::LargeUtf8,
        DataType::Utf8View,
        dictionary,
    ] {
        let array = cast(&strings, &data_type).expect("strings");
        let rows = batch(vec![("text", array.clone()), ("text_b", array)]);
        let (parquet, arrow) = (
            folder.path().join("a.parquet"),
            folder.path().join("a.arrow"),
        );
        write_parquet(&parquet, &rows, Compression::UNCOMPRESSED);
        write_arrow(&arrow, &rows, false, None);
        for path in [parquet, arrow] {
            let rows = read_all(&open_as(&path, &[Kind::Text], &MAP).expect("a dataset")).remove(0);
            let bytes: Vec<_> = (0..4).map(|row| rows.bytes(row)).collect();
            let expected = [Some("one".as_bytes()), None, Some("zwölf".as_bytes()), None];
            assert_eq!(bytes, expected, "{data_type}");
            assert_eq!(rows.second(2), expected[2]);
        }
    }
}

#[test]
fn invalid_utf8_spoils_only_its_own_row() {
    let folder = folder();
    for data_type in [DataType::Utf8, DataType::LargeUtf8, DataType::Utf8View] {
        let strings: ArrayRef = Arc::new(StringArray::from(vec!["the first", "the second"]));
        let array = cast(&strings, &data_type).expect("strings");
        let rows = batch(vec![("text", array)]);
        let (parquet, arrow) = (
            folder.path().join("a.parquet"),
            folder.path().join("a.arrow"),
        );
        write_parquet(&parquet, &rows, Compression::UNCOMPRESSED);
        write_arrow(&arrow, &rows, false, None);
        for path in [parquet, arrow] {
            let mut file = std::fs::read(&path).expect("a file");
            // In the pages, and in the statistics where a format has them.
            let places: Vec<usize> = (0..file.len() - 10)
                .filter(|&at| file[at..].starts_with(b"the second"))
                .collect();
            assert!(!places.is_empty());
            for at in places {
                file[at + 4] ^= 0x80;
            }
            std::fs::write(&path, file).expect("written");
            let rows = read_all(&open_as(&path, &[Kind::Text], &MAP).expect("a dataset")).remove(0);
            assert_eq!(rows.bytes(0), Some(&b"the first"[..]), "{data_type}");
            assert_eq!(rows.bytes(1), Some(&b"the \xf3econd"[..]), "{data_type}");
        }
    }
}

#[test]
fn invalid_utf8_in_a_path_gives_no_path() {
    let folder = folder();
    let path = folder.path().join("a.parquet");
    let rows = batch(vec![("audio", image_struct(0..4))]);
    write_parquet(&path, &rows, Compression::UNCOMPRESSED);
    let mut file = std::fs::read(&path).expect("a file");
    let at = file.windows(5).position(|part| part == b"1.jpg");
    file[at.expect("a path")] ^= 0x80;
    std::fs::write(&path, file).expect("written");
    let rows = read_all(&open_as(&path, &[Kind::Audio], &MAP).expect("a dataset")).remove(0);
    assert_eq!((rows.path(0), rows.path(1)), (Some("0.jpg"), None));
    assert_eq!(rows.bytes(1), image_bytes(1).as_deref());
}

#[test]
fn token_blocks_are_read_with_their_vocabulary() {
    let folder = folder();
    let (parquet, arrow) = (
        folder.path().join("a.parquet"),
        folder.path().join("a.arrow"),
    );
    write_parquet(&parquet, &tokens(), Compression::UNCOMPRESSED);
    write_arrow(&arrow, &tokens(), true, None);
    for path in [parquet, arrow] {
        let dataset = open_as(&path, &Kind::ALL, &MAP).expect("a dataset");
        assert_eq!(dataset.kind, Kind::Tokens);
        let info = dataset.tokenizer.as_ref().expect("a vocabulary");
        assert_eq!((info.mask, info.block_tokens), (19, 2));
        let groups = read_all(&dataset);
        let bytes = groups[1].bytes(1).expect("a block");
        assert_eq!(
            unpadded_tokens(info, bytes, groups[1].n_tokens(1)),
            Ok(vec![5])
        );
        assert_eq!(unpadded_tokens(info, bytes, None), Ok(vec![5]));
        for n in [0, -1, 3] {
            assert!(unpadded_tokens(info, bytes, Some(n)).is_err(), "{n} tokens");
        }
        // Held in full: fixed-size binary is copied out of its pages.
        for (group, rows) in dataset.shards[0].groups.iter().zip(&groups) {
            assert!(
                rows.memory() <= group.memory,
                "{} > {}",
                rows.memory(),
                group.memory
            );
        }
    }
}

#[test]
fn read_lengths_reads_no_media_and_rejects_bad_lengths() {
    let folder = folder();
    let n_frames: Vec<i32> = (0..ROWS as i32).map(|row| 100 * row).collect();
    let rows = |n_frames: ArrayRef| {
        batch(vec![
            ("n_frames", n_frames),
            ("audio", image_struct(0..ROWS)),
            ("sample_rate_hz", numbers(&[8000; ROWS])),
        ])
    };
    for name in ["a.parquet", "b.parquet"] {
        let rows = rows(numbers(&n_frames));
        write_parquet(&folder.path().join(name), &rows, Compression::SNAPPY);
    }
    let costs = |path: &Path, map: &[(&str, &str)]| {
        let dataset = open_as(path, &[Kind::Audio], map)?;
        let mut costs = Vec::new();
        let read = dataset
            .read_lengths(|length| costs.push((length.n as u32) * length.rate_hz.unwrap_or(1)));
        block_on(read).map(|()| costs)
    };
    let expected: Vec<u32> = n_frames.iter().map(|&n| n as u32 * 8000).collect();
    let expected = [expected.clone(), expected].concat();
    assert_eq!(costs(folder.path(), &MAP).expect("lengths"), expected);
    write_manifest_of(folder.path(), &[Kind::Audio], |_| ());
    assert_eq!(
        costs(folder.path(), &MAP).expect("lengths"),
        expected,
        "from a manifest"
    );

    let path = folder.path().join("c.parquet");
    let mut holes: Vec<Option<i32>> = n_frames.iter().copied().map(Some).collect();
    holes[6] = None;
    write_parquet(
        &path,
        &rows(Arc::new(Int32Array::from(holes))),
        Compression::SNAPPY,
    );
    let text = costs(&path, &MAP).expect_err("a hole").to_string();
    assert!(text.contains("row 6 has no length"), "{text}");
    write_parquet(&path, &rows(numbers(&[-3; ROWS])), Compression::SNAPPY);
    let text = costs(&path, &MAP).expect_err("negative").to_string();
    assert!(text.contains("a length of -3"), "{text}");
    let text = costs(&path, &[("n_frames", "audio")])
        .expect_err("media")
        .to_string();
    assert!(text.contains("not integers"), "{text}");
    let path = folder.path().join("c.arrow");
    write_arrow(&path, &rows(numbers(&n_frames)), false, None);
    let text = costs(&path, &MAP).expect_err("not Parquet").to_string();
    assert!(
        text.contains("Parquet") && text.contains("`batch`"),
        "{text}"
    );
}
