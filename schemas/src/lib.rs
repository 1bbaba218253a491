//! Schemas of shards, for every language.
//!
//! The TOML files in this crate define the schemas; the Rust here reads them and makes Arrow schemas
//! with the metadata by which Hugging Face's `datasets` recognizes images, audio and class names.
//!
//! **Invariant:** this crate depends on no storage, runtime or tensor library.
//!
//! ```
//! let classes = ["cat".to_owned(), "dog".to_owned()];
//! let schema = understudy_schemas::IMAGE.arrow(Some(&classes));
//! assert!(schema.metadata()["huggingface"].contains("\"names\":[\"cat\",\"dog\"]"));
//! ```

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use arrow_schema::{DataType, Field};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};

/// Metadata key of the schema's name.
pub const NAME_KEY: &str = "understudy.schema";
/// Metadata key of the schema's version.
pub const VERSION_KEY: &str = "understudy.schema_version";
/// Metadata key of Hugging Face's features, as JSON.
pub const HUGGINGFACE_KEY: &str = "huggingface";
/// Metadata key of the [`Vocabulary`] of a token file, as JSON.
pub const TOKENIZER_KEY: &str = "understudy.tokenizer";
/// Metadata key of the description of the encoder of a feature file, as JSON.
pub const FEATURES_KEY: &str = "understudy.features";

/// One image per row, from `schemas/image.toml`.
pub static IMAGE: LazyLock<Schema> = LazyLock::new(|| {
    Schema::parse(include_str!("../image.toml")).expect("image.toml is embedded and tested")
});

/// One audio file per row, from `schemas/audio.toml`.
pub static AUDIO: LazyLock<Schema> = LazyLock::new(|| {
    Schema::parse(include_str!("../audio.toml")).expect("audio.toml is embedded and tested")
});

/// One text or pair of texts per row, from `schemas/text.toml`.
pub static TEXT: LazyLock<Schema> = LazyLock::new(|| {
    Schema::parse(include_str!("../text.toml")).expect("text.toml is embedded and tested")
});

/// One block of tokens per row, from `schemas/tokens.toml`; see [`Schema::arrow_tokens`].
pub static TOKENS: LazyLock<Schema> = LazyLock::new(|| {
    Schema::parse(include_str!("../tokens.toml")).expect("tokens.toml is embedded and tested")
});

/// Features of one sample per row, from `schemas/features.toml`; see
/// [`Schema::arrow_features`].
pub static FEATURES: LazyLock<Schema> = LazyLock::new(|| {
    Schema::parse(include_str!("../features.toml")).expect("features.toml is embedded and tested")
});

/// The vocabulary of a token dataset, and the layout of its blocks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vocabulary {
    /// Folder or file of the vocabulary, for messages.
    pub name: String,
    /// Number of ids: a token is in `0..vocab_size`.
    pub vocab_size: u32,
    /// Id that begins every block.
    pub bos: u32,
    /// Id that ends every line and document.
    pub eos: u32,
    /// Id that pads a block.
    pub pad: u32,
    /// Id of text that the vocabulary lacks.
    pub unk: u32,
    /// Id of masked tokens.
    pub mask: u32,
    /// Bytes of one token, 2 or 4, little-endian.
    pub width_bytes: u32,
    /// Tokens of one row, padding included.
    pub block_tokens: u32,
    /// SHA-256 of the vocabulary's files, hexadecimal.
    pub sha256: String,
}

/// The columns of one modality's shards.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schema {
    /// `image`, `audio`, `text`, `tokens` or `features`.
    pub name: String,
    /// Version; raised by every change that an older reader cannot read.
    pub version: u32,
    /// Columns, in the order of a file.
    #[serde(rename = "column")]
    pub columns: Vec<Column>,
}

/// One column of a schema.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// Name in the file.
    pub name: String,
    /// Arrow type.
    #[serde(rename = "type", deserialize_with = "data_type")]
    pub data_type: DataType,
    /// Whether it may be null.
    pub nullable: bool,
    /// Type in `datasets`.
    pub feature: Feature,
    /// Whether it holds encoded media: stored plain, without dictionary, statistics or compression.
    #[serde(default)]
    pub media: bool,
    /// Description, in words.
    pub meaning: String,
}

/// Type of a column in Hugging Face's `datasets`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Feature {
    /// An image.
    Image,
    /// Audio.
    Audio,
    /// An integer that is the index of a class name.
    ClassLabel,
    /// A plain value of the Arrow type.
    Value,
}

/// Returns the class names of a column from a file's `huggingface` metadata, if the column is a
/// `ClassLabel`.
pub fn class_names(huggingface: &str, column: &str) -> Option<Vec<String>> {
    let metadata: Value = serde_json::from_str(huggingface).ok()?;
    let names = metadata["info"]["features"][column]["names"].as_array()?;
    names
        .iter()
        .map(|name| name.as_str().map(str::to_owned))
        .collect()
}

impl Schema {
    /// Reads a schema from TOML; the error names the line.
    pub fn parse(toml: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(toml)
    }

    /// Makes the Arrow schema of a file, with name, version and features in its metadata. `classes`
    /// become the names of the `ClassLabel` column; without them it is a plain integer.
    pub fn arrow(&self, classes: Option<&[String]>) -> arrow_schema::Schema {
        let fields = self
            .columns
            .iter()
            .map(|c| Field::new(&c.name, c.data_type.clone(), c.nullable))
            .collect::<Vec<_>>();
        let metadata = HashMap::from([
            (NAME_KEY.to_owned(), self.name.clone()),
            (VERSION_KEY.to_owned(), self.version.to_string()),
            (HUGGINGFACE_KEY.to_owned(), self.huggingface(classes)),
        ]);
        arrow_schema::Schema::new_with_metadata(fields, metadata)
    }

    /// Makes the Arrow schema of a file of token blocks: the column `tokens` has the vocabulary's width,
    /// and the vocabulary is in the metadata.
    #[expect(
        clippy::missing_panics_doc,
        reason = "strings and numbers always become JSON"
    )]
    pub fn arrow_tokens(&self, vocabulary: &Vocabulary) -> arrow_schema::Schema {
        let mut sized = self.clone();
        let block_bytes = (vocabulary.width_bytes * vocabulary.block_tokens) as i32;
        for column in &mut sized.columns {
            if let DataType::FixedSizeBinary(bytes) = &mut column.data_type {
                *bytes = block_bytes;
            }
        }
        let mut schema = sized.arrow(None);
        let json = serde_json::to_string(vocabulary).expect("strings and numbers become JSON");
        schema.metadata.insert(TOKENIZER_KEY.to_owned(), json);
        schema
    }

    /// Makes the Arrow schema of a file of features: the column `features` has `dim` numbers a row, or,
    /// per position, a list of such vectors. `about` describes the encoder, as JSON.
    pub fn arrow_features(
        &self,
        dim: usize,
        per_position: bool,
        classes: Option<&[String]>,
        about: String,
    ) -> arrow_schema::Schema {
        let mut sized = self.clone();
        for column in &mut sized.columns {
            if let DataType::FixedSizeList(_, length) = &mut column.data_type {
                *length = dim as i32;
                if per_position {
                    let vector = Field::new("item", column.data_type.clone(), true);
                    column.data_type = DataType::List(Arc::new(vector));
                }
            }
        }
        let mut schema = sized.arrow(classes);
        schema.metadata.insert(FEATURES_KEY.to_owned(), about);
        schema
    }

    /// Returns the `huggingface` metadata: `{"info": {"features": {column: feature}}}`.
    pub fn huggingface(&self, classes: Option<&[String]>) -> String {
        // Joined by hand so that the features are in the columns' order.
        let features: Vec<String> = self
            .columns
            .iter()
            .map(|column| format!("{}:{}", json!(column.name), column.huggingface(classes)))
            .collect();
        format!("{{\"info\":{{\"features\":{{{}}}}}}}", features.join(","))
    }
}

impl Column {
    fn huggingface(&self, classes: Option<&[String]>) -> Value {
        match (self.feature, classes) {
            (Feature::Image, _) => json!({ "_type": "Image" }),
            (Feature::Audio, _) => json!({ "_type": "Audio" }),
            (Feature::ClassLabel, Some(names)) => json!({ "_type": "ClassLabel", "names": names }),
            (Feature::ClassLabel, None) | (Feature::Value, _) => value(&self.data_type),
        }
    }
}

/// Returns the type of a value, or of a list of values, as `datasets` describes it.
fn value(data_type: &DataType) -> Value {
    match data_type {
        // Later versions say `List`, and read this too.
        DataType::List(item) => {
            json!({ "_type": "Sequence", "feature": value(item.data_type()) })
        }
        DataType::FixedSizeList(item, length) => {
            json!({ "_type": "Sequence", "feature": value(item.data_type()), "length": length })
        }
        plain => json!({ "_type": "Value", "dtype": dtype(plain) }),
    }
}

/// Returns the type as `datasets` spells it: int64, uint64, string.
fn dtype(data_type: &DataType) -> String {
    match data_type {
        DataType::Utf8 => "string".to_owned(),
        DataType::FixedSizeBinary(bytes) => format!("fixed_size_binary[{bytes}]"),
        other => other.to_string().to_lowercase(),
    }
}

fn data_type<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DataType, D::Error> {
    let name = String::deserialize(deserializer)?;
    name.parse()
        .map_err(|e| serde::de::Error::custom(format!("Arrow type `{name}`: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_schema_matches_hugging_face() {
        let schema = IMAGE.arrow(None);
        let names: Vec<_> = schema.fields().iter().map(|f| f.name().as_str()).collect();
        assert_eq!(
            names,
            [
                "image",
                "width",
                "height",
                "label",
                "bytes_xxh3",
                "label_xxh3"
            ]
        );
        let DataType::Struct(image) = schema.field(0).data_type() else {
            panic!("image is a struct");
        };
        assert_eq!(image[0].name(), "bytes");
        assert_eq!(image[0].data_type(), &DataType::Binary);
        assert!(
            image[0].is_nullable() && schema.field(0).is_nullable(),
            "as `datasets` has them"
        );
        assert_eq!(image[1].name(), "path");
        assert_eq!(image[1].data_type(), &DataType::Utf8);
        assert_eq!(schema.metadata()[NAME_KEY], "image");
        assert_eq!(schema.metadata()[VERSION_KEY], "1");
    }

    #[test]
    fn labels_have_class_names_or_are_plain_integers() {
        let named: Value =
            serde_json::from_str(&IMAGE.huggingface(Some(&["a".into(), "b \"c\"".into()])))
                .unwrap();
        let features = &named["info"]["features"];
        assert_eq!(features["image"], json!({ "_type": "Image" }));
        assert_eq!(
            features["label"],
            json!({ "_type": "ClassLabel", "names": ["a", "b \"c\""] })
        );
        assert_eq!(
            features["width"],
            json!({ "_type": "Value", "dtype": "int32" })
        );
        assert_eq!(
            features["bytes_xxh3"],
            json!({ "_type": "Value", "dtype": "uint64" })
        );
        let read = class_names(&named.to_string(), "label").unwrap();
        assert_eq!(read, ["a", "b \"c\""]);
        assert_eq!(class_names(&named.to_string(), "width"), None);
        let plain: Value = serde_json::from_str(&IMAGE.huggingface(None)).unwrap();
        assert_eq!(
            plain["info"]["features"]["label"],
            json!({ "_type": "Value", "dtype": "int64" })
        );
    }

    #[test]
    fn audio_and_text_schemas_match_hugging_face() {
        let features = |schema: &Schema| -> Value {
            let json: Value = serde_json::from_str(&schema.huggingface(None)).unwrap();
            json["info"]["features"].clone()
        };
        let audio = features(&AUDIO);
        assert_eq!(audio["audio"], json!({ "_type": "Audio" }));
        assert_eq!(
            audio["transcript"],
            json!({ "_type": "Value", "dtype": "string" })
        );
        assert_eq!(
            AUDIO.arrow(None).field(0).data_type(),
            IMAGE.arrow(None).field(0).data_type()
        );
        let text = features(&TEXT);
        assert_eq!(
            text["score"],
            json!({ "_type": "Value", "dtype": "float32" })
        );
        assert!(TEXT.columns[0].media && !TEXT.columns[0].nullable);
    }

    #[test]
    fn token_schema_has_the_vocabulary_and_the_block_size() {
        let vocabulary = Vocabulary {
            name: "gpt2".to_owned(),
            vocab_size: 50_265,
            bos: 0,
            eos: 2,
            pad: 1,
            unk: 3,
            mask: 50_264,
            width_bytes: 2,
            block_tokens: 32,
            sha256: "ab".to_owned(),
        };
        let schema = TOKENS.arrow_tokens(&vocabulary);
        assert_eq!(schema.field(0).data_type(), &DataType::FixedSizeBinary(64));
        let read: Vocabulary = serde_json::from_str(&schema.metadata()[TOKENIZER_KEY]).unwrap();
        assert_eq!(read, vocabulary);
        assert!(schema.metadata()[HUGGINGFACE_KEY].contains("fixed_size_binary[64]"));
        assert_eq!(schema.metadata()[NAME_KEY], "tokens");
    }

    #[test]
    fn feature_schema_has_one_vector_per_row_or_per_position() {
        let pooled = FEATURES.arrow_features(32, false, None, "{}".to_owned());
        let names: Vec<_> = pooled.fields().iter().map(|f| f.name().as_str()).collect();
        assert_eq!(names, ["row", "path", "label", "features"]);
        let vector = pooled.field(3).data_type().clone();
        assert!(
            matches!(&vector, DataType::FixedSizeList(item, 32) if *item.data_type() == DataType::Float32)
        );
        let positions = FEATURES.arrow_features(32, true, Some(&["a".into()]), "{}".to_owned());
        let DataType::List(item) = positions.field(3).data_type() else {
            panic!("a list per sample");
        };
        assert_eq!(*item.data_type(), vector);
        let features: Value = serde_json::from_str(&positions.metadata()[HUGGINGFACE_KEY]).unwrap();
        let features = &features["info"]["features"];
        assert_eq!(
            features["label"],
            json!({ "_type": "ClassLabel", "names": ["a"] })
        );
        assert_eq!(features["features"]["feature"]["length"], 32);
        assert_eq!(
            features["features"]["feature"]["feature"],
            json!({ "_type": "Value", "dtype": "float32" })
        );
        assert_eq!(positions.metadata()[FEATURES_KEY], "{}");
    }

    #[test]
    fn parse_names_an_unknown_type_or_key() {
        let column = "name = \"x\"\nversion = 1\n[[column]]\nname = \"c\"\nnullable = false\n\
                      feature = \"Value\"\nmeaning = \"m\"\n";
        let error = Schema::parse(&format!("{column}type = \"Int33\"")).unwrap_err();
        assert!(error.to_string().contains("Int33"), "{error}");
        let error = Schema::parse(&format!("{column}type = \"Int32\"\nunit = \"s\"")).unwrap_err();
        assert!(error.to_string().contains("unit"), "{error}");
    }
}
