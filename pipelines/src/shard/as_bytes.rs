//! Media and texts are read as bytes. A decoder that checks strings fails for an entire row group
//! where one string is not UTF-8; read as bytes, only that row is bad.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use parquet::basic::{Repetition, Type as Physical};
use parquet::errors::ParquetError;
use parquet::file::metadata::{FileMetaData, ParquetMetaData};
use parquet::schema::types::{SchemaDescriptor, Type};

use super::columns::{ColumnMap, is_binary, is_text, value_type};

/// Returns a Parquet file's metadata, in which strings of media columns are plain bytes.
pub(super) fn of_parquet(
    metadata: &ParquetMetaData,
    map: &ColumnMap,
) -> Result<ParquetMetaData, ParquetError> {
    let file = metadata.file_metadata();
    let root = file.schema_descr().root_schema();
    let fields = root.get_fields().iter().map(|field| {
        if map.is_media(field.name()) {
            untyped(field).map(Arc::new)
        } else {
            Ok(field.clone())
        }
    });
    let root = Type::group_type_builder(root.name())
        .with_fields(fields.collect::<Result<_, _>>()?)
        .build()?;
    let file = FileMetaData::new(
        file.version(),
        file.num_rows(),
        file.created_by().map(str::to_owned),
        file.key_value_metadata().cloned(),
        Arc::new(SchemaDescriptor::new(Arc::new(root))),
        file.column_orders().cloned(),
    );
    Ok(ParquetMetaData::new(file, metadata.row_groups().to_vec()))
}

/// Returns the same leaves without their logical type.
fn untyped(column: &Type) -> Result<Type, ParquetError> {
    let info = column.get_basic_info();
    let repetition = if info.has_repetition() {
        info.repetition()
    } else {
        Repetition::REQUIRED
    };
    match column {
        Type::PrimitiveType { .. } if column.get_physical_type() == Physical::BYTE_ARRAY => {
            Type::primitive_type_builder(column.name(), Physical::BYTE_ARRAY)
                .with_repetition(repetition)
                .build()
        }
        Type::PrimitiveType { .. } => Ok(column.clone()),
        Type::GroupType { fields, .. } => {
            let fields = fields.iter().map(|field| untyped(field).map(Arc::new));
            Type::group_type_builder(column.name())
                .with_repetition(repetition)
                .with_logical_type(info.logical_type_ref().cloned())
                .with_converted_type(info.converted_type())
                .with_fields(fields.collect::<Result<_, _>>()?)
                .build()
        }
    }
}

/// Returns the schema to read Parquet with: media as views into the fetched pages, not as copies.
pub(super) fn as_views(schema: &Schema, map: &ColumnMap) -> Schema {
    each_media(schema, map, &|found| match value_type(found) {
        values if is_binary(values) || is_text(values) => DataType::BinaryView,
        _ => found.clone(),
    })
}

/// Returns the schema to read Arrow with. Dictionaries stay: each value may be that of many rows.
pub(super) fn of_arrow(schema: &Schema, map: &ColumnMap) -> Schema {
    each_media(schema, map, &|found| match found {
        DataType::Utf8 => DataType::Binary,
        DataType::LargeUtf8 => DataType::LargeBinary,
        DataType::Utf8View => DataType::BinaryView,
        other => other.clone(),
    })
}

fn each_media(schema: &Schema, map: &ColumnMap, leaf: &dyn Fn(&DataType) -> DataType) -> Schema {
    let fields = schema.fields().iter().map(|field| {
        if map.is_media(field.name()) {
            Arc::new(each_leaf(field, leaf))
        } else {
            field.clone()
        }
    });
    Schema::new_with_metadata(fields.collect::<Vec<_>>(), schema.metadata().clone())
}

fn each_leaf(field: &Field, leaf: &dyn Fn(&DataType) -> DataType) -> Field {
    let data_type = match field.data_type() {
        DataType::Struct(parts) => {
            let parts = parts.iter().map(|part| Arc::new(each_leaf(part, leaf)));
            DataType::Struct(parts.collect())
        }
        other => leaf(other),
    };
    field.clone().with_data_type(data_type)
}
