//! What a shard holds, for every language.
//!
//! The TOML files beside this crate are the truth; the Rust here reads them and turns them into an
//! Arrow schema with the metadata by which Hugging Face's `datasets` knows pictures and class names.
//!
//! **Invariant:** this crate knows nothing of storage, runtimes or tensors.
//!
//! ```
//! let classes = ["cat".to_owned(), "dog".to_owned()];
//! let schema = understudy_schemas::IMAGE.arrow(Some(&classes));
//! assert!(schema.metadata()["huggingface"].contains("\"names\":[\"cat\",\"dog\"]"));
//! ```

use std::collections::HashMap;
use std::sync::LazyLock;

use arrow_schema::{DataType, Field};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

/// Key of a file's metadata under which the schema's name stands.
pub const NAME_KEY: &str = "understudy.schema";
/// Key of a file's metadata under which the schema's version stands.
pub const VERSION_KEY: &str = "understudy.schema_version";
/// Key of a file's metadata under which Hugging Face's features stand, as JSON.
pub const HUGGINGFACE_KEY: &str = "huggingface";

/// One picture per row, from `schemas/image.toml`.
pub static IMAGE: LazyLock<Schema> = LazyLock::new(|| {
    Schema::parse(include_str!("../image.toml")).expect("image.toml is embedded and tested")
});

/// The columns of one modality's shards.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schema {
    /// The modality: `image`.
    pub name: String,
    /// Raised by every change that an older reader cannot bear.
    pub version: u32,
    /// In the order in which they stand in a file.
    #[serde(rename = "column")]
    pub columns: Vec<Column>,
}

/// One column.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// Its name in the file.
    pub name: String,
    /// Its Arrow type.
    #[serde(rename = "type", deserialize_with = "data_type")]
    pub data_type: DataType,
    /// Whether a row may lack it.
    pub nullable: bool,
    /// What `datasets` makes of it.
    pub feature: Feature,
    /// Whether it holds encoded media: stored plain, without dictionary, statistics or compression.
    #[serde(default)]
    pub media: bool,
    /// What it means, in words.
    pub meaning: String,
}

/// What Hugging Face's `datasets` makes of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Feature {
    /// A picture.
    Image,
    /// An integer that counts class names.
    ClassLabel,
    /// The value as it stands.
    Value,
}

/// The class names that a file's `huggingface` metadata gives a column, if it is a `ClassLabel`.
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

    /// The Arrow schema of a file, with name, version and features in its metadata. `classes`
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

    /// The `huggingface` metadata: `{"info": {"features": {column: feature}}}`.
    pub fn huggingface(&self, classes: Option<&[String]>) -> String {
        // Joined by hand so that the features stand in the columns' order.
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
            (Feature::ClassLabel, Some(names)) => json!({ "_type": "ClassLabel", "names": names }),
            // `datasets` spells the plain types in lower case: int64, uint64.
            (Feature::ClassLabel, None) | (Feature::Value, _) => {
                json!({ "_type": "Value", "dtype": self.data_type.to_string().to_lowercase() })
            }
        }
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
    fn image_schema_is_what_hugging_face_expects() {
        let schema = IMAGE.arrow(None);
        let names: Vec<_> = schema.fields().iter().map(|f| f.name().as_str()).collect();
        assert_eq!(names, ["image", "width", "height", "label", "bytes_xxh3"]);
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
    fn features_carry_the_class_names_or_a_plain_integer() {
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
    fn a_wrong_type_or_key_is_named() {
        let column = "name = \"x\"\nversion = 1\n[[column]]\nname = \"c\"\nnullable = false\n\
                      feature = \"Value\"\nmeaning = \"m\"\n";
        let error = Schema::parse(&format!("{column}type = \"Int33\"")).unwrap_err();
        assert!(error.to_string().contains("Int33"), "{error}");
        let error = Schema::parse(&format!("{column}type = \"Int32\"\nunit = \"s\"")).unwrap_err();
        assert!(error.to_string().contains("unit"), "{error}");
    }
}
