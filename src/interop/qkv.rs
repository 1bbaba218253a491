//! Joins query, key and value matrices, which other projects store separately, and splits them.
//!
//! Separate matrices are temporarily named `….qkv.query.weight`, `….qkv.key.bias` and so on; joined
//! they are `….qkv.weight` and `….qkv.bias`.

use std::collections::BTreeMap;

use burn::tensor::{DType, TensorData};

use super::error::ImportError;
use crate::checkpoint::safetensors::Tensors;

/// Matrices in the order of the joined one.
const QKV: [&str; 3] = ["query", "key", "value"];

/// Joins all separate matrices: three of `[n, …]` become `[3·n, …]`.
pub(super) fn join(tensors: Tensors) -> Result<Tensors, ImportError> {
    let mut joined = Tensors::new();
    let mut separate: BTreeMap<String, BTreeMap<usize, TensorData>> = BTreeMap::new();
    for (name, tensor) in tensors {
        match joined_name(&name) {
            Some((joined, index)) => {
                separate.entry(joined).or_default().insert(index, tensor);
            }
            None => {
                joined.insert(name, tensor);
            }
        }
    }
    for (name, matrices) in separate {
        if matrices.len() != QKV.len() {
            return Err(ImportError::IncompleteMatrix {
                name,
                found: matrices.len(),
            });
        }
        let mut shape = matrices[&0].shape().to_vec();
        let equal = matrices
            .values()
            .all(|matrix| matrix.dtype() == DType::F32 && matrix.shape().as_slice() == shape);
        if !equal || shape.is_empty() {
            return Err(ImportError::UnequalQkv(name));
        }
        let bytes: Vec<u8> = matrices
            .values()
            .flat_map(TensorData::as_bytes)
            .copied()
            .collect();
        shape[0] *= QKV.len();
        joined.insert(name, TensorData::from_bytes_vec(bytes, shape, DType::F32));
    }
    Ok(joined)
}

/// Splits all joined matrices: `[3·n, …]` becomes three of `[n, …]` under temporary names.
pub(super) fn split(tensors: Tensors) -> Tensors {
    let mut split = Tensors::new();
    for (name, tensor) in tensors {
        let Some((prefix, kind)) = name.rsplit_once(".qkv.") else {
            split.insert(name, tensor);
            continue;
        };
        let mut shape = tensor.shape().to_vec();
        shape[0] /= QKV.len();
        let bytes = tensor
            .as_bytes()
            .chunks(tensor.as_bytes().len() / QKV.len());
        for (matrix, bytes) in QKV.iter().zip(bytes) {
            let data = TensorData::from_bytes_vec(bytes.to_vec(), shape.clone(), tensor.dtype());
            split.insert(format!("{prefix}.qkv.{matrix}.{kind}"), data);
        }
    }
    split
}

/// Returns the joined name and the index in [`QKV`] of a separate matrix; `None` for other tensors.
fn joined_name(name: &str) -> Option<(String, usize)> {
    let (prefix, rest) = name.rsplit_once(".qkv.")?;
    let (matrix, kind) = rest.split_once('.')?;
    let index = QKV.iter().position(|known| *known == matrix)?;
    Some((format!("{prefix}.qkv.{kind}"), index))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interop::hugging_face::vision;

    #[test]
    fn join_concatenates_query_key_value_and_split_reverses_it() {
        let matrix = |name: &str, value: f32| {
            (
                format!("a.qkv.{name}.bias"),
                TensorData::from([value, value]),
            )
        };
        let matrices = [
            matrix("value", 3.0),
            matrix("query", 1.0),
            matrix("key", 2.0),
        ];
        let joined = join(Tensors::from(matrices)).unwrap();
        let expected = TensorData::from([1.0_f32, 1.0, 2.0, 2.0, 3.0, 3.0]);
        assert_eq!(joined["a.qkv.bias"], expected);
        let matrices = [
            matrix("query", 1.0),
            matrix("key", 2.0),
            matrix("value", 3.0),
        ];
        assert_eq!(split(joined), Tensors::from(matrices));
    }

    #[test]
    fn incomplete_attention_matrix_is_rejected() {
        let matrix = |name: &str| {
            let name = format!("encoder.layer.0.attention.attention.{name}.weight");
            (name, TensorData::zeros::<f32, _>([2, 2]))
        };
        let found = vision::import(Tensors::from([matrix("query"), matrix("value")]));
        assert!(matches!(
            found,
            Err(ImportError::IncompleteMatrix { found: 2, .. })
        ));
        let found = vision::import(Tensors::from([matrix("query"), matrix("kee")]));
        assert!(matches!(found, Err(ImportError::UnknownName(name)) if name.contains("kee")));
    }
}
