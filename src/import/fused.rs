//! Query, key and value matrices that others store apart and we as one.
//!
//! A part's passing name is `….qkv.query.weight`, `….qkv.key.bias` and so on; joined they are
//! `….qkv.weight` and `….qkv.bias`. [`split`] takes them apart again.

use std::collections::BTreeMap;

use burn::tensor::{DType, TensorData};

use super::{ImportError, Tensors};

/// Parts in the order of the fused matrix.
const PARTS: [&str; 3] = ["query", "key", "value"];

/// Joins all parts: three of `[n, …]` become `[3·n, …]`.
pub(crate) fn join(tensors: Tensors) -> Result<Tensors, ImportError> {
    let mut joined = Tensors::new();
    let mut fused: BTreeMap<String, BTreeMap<usize, TensorData>> = BTreeMap::new();
    for (name, tensor) in tensors {
        match whole(&name) {
            Some((whole, part)) => {
                fused.entry(whole).or_default().insert(part, tensor);
            }
            None => {
                joined.insert(name, tensor);
            }
        }
    }
    for (name, parts) in fused {
        if parts.len() != PARTS.len() {
            return Err(ImportError::IncompleteMatrix {
                name,
                found: parts.len(),
            });
        }
        let mut shape = parts[&0].shape().to_vec();
        let equal = parts
            .values()
            .all(|part| part.dtype() == DType::F32 && part.shape().as_slice() == shape);
        if !equal || shape.is_empty() {
            return Err(ImportError::UnequalParts(name));
        }
        let bytes: Vec<u8> = parts
            .values()
            .flat_map(TensorData::as_bytes)
            .copied()
            .collect();
        shape[0] *= PARTS.len();
        joined.insert(name, TensorData::from_bytes_vec(bytes, shape, DType::F32));
    }
    Ok(joined)
}

/// Takes all joined matrices apart: `[3·n, …]` becomes three of `[n, …]` under passing names.
pub(crate) fn split(tensors: Tensors) -> Tensors {
    let mut parts = Tensors::new();
    for (name, tensor) in tensors {
        let Some((prefix, kind)) = name.rsplit_once(".qkv.") else {
            parts.insert(name, tensor);
            continue;
        };
        let mut shape = tensor.shape().to_vec();
        shape[0] /= PARTS.len();
        let bytes = tensor
            .as_bytes()
            .chunks(tensor.as_bytes().len() / PARTS.len());
        for (part, bytes) in PARTS.iter().zip(bytes) {
            let data = TensorData::from_bytes_vec(bytes.to_vec(), shape.clone(), tensor.dtype());
            parts.insert(format!("{prefix}.qkv.{part}.{kind}"), data);
        }
    }
    parts
}

/// The joined name and the part's number, where `name` is a part's.
fn whole(name: &str) -> Option<(String, usize)> {
    let (prefix, rest) = name.rsplit_once(".qkv.")?;
    let (part, kind) = rest.split_once('.')?;
    let part = PARTS.iter().position(|known| *known == part)?;
    Some((format!("{prefix}.qkv.{kind}"), part))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::hugging_face::vision;

    #[test]
    fn parts_follow_each_other() {
        let part = |name: &str, value: f32| {
            (
                format!("a.qkv.{name}.bias"),
                TensorData::from([value, value]),
            )
        };
        let parts = [part("value", 3.0), part("query", 1.0), part("key", 2.0)];
        let joined = join(Tensors::from(parts)).unwrap();
        let expected = TensorData::from([1.0_f32, 1.0, 2.0, 2.0, 3.0, 3.0]);
        assert_eq!(joined["a.qkv.bias"], expected);
        let parts = [part("query", 1.0), part("key", 2.0), part("value", 3.0)];
        assert_eq!(split(joined), Tensors::from(parts));
    }

    #[test]
    fn a_matrix_without_its_keys_is_refused() {
        let part = |name: &str| {
            let name = format!("encoder.layer.0.attention.attention.{name}.weight");
            (name, TensorData::zeros::<f32, _>([2, 2]))
        };
        let found = vision::import(Tensors::from([part("query"), part("value")]));
        assert!(matches!(
            found,
            Err(ImportError::IncompleteMatrix { found: 2, .. })
        ));
        let found = vision::import(Tensors::from([part("query"), part("kee")]));
        assert!(matches!(found, Err(ImportError::UnknownName(name)) if name.contains("kee")));
    }
}
