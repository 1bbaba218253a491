//! The table that `understudy evaluate` prints and writes.

use std::fmt;

use burn::tensor::Device;
use serde::Serialize;

use super::features::Split;
use super::knn::knn;
use super::probe::probe;

/// Unit that is classified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EvalUnit {
    /// Samples, each with the mean of its positions (audio: mean and deviation).
    Samples,
    /// Single positions of audio, each with the label of its utterance.
    Frames,
}

/// Results of several encoders on the same two datasets, one row each.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Table {
    /// Unit that is classified.
    #[serde(rename = "of")]
    pub unit: EvalUnit,
    /// Training set of the classifiers.
    pub train: String,
    /// Validation set, a path or URL.
    pub val: String,
    /// Number of samples in the training set.
    pub n_train: usize,
    /// Number of samples in the validation set.
    pub n_val: usize,
    /// Number of classes.
    pub n_classes: usize,
    /// One row per encoder.
    pub rows: Vec<Row>,
}

/// Results of one encoder, as shares of the validation set.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Name of the encoder or baseline.
    pub name: String,
    /// Feature dimension per sample or position.
    pub dim: usize,
    /// Accuracy of k-NN with 20 neighbours by cosine; `None` for positions, which are too many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub knn_top1: Option<f64>,
    /// Accuracy of the nearest neighbour alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nearest_top1: Option<f64>,
    /// Accuracy of the linear probe.
    pub probe_top1: f64,
    /// Standard error of `probe_top1`: √(p (1 − p) / n). For positions, n counts utterances, as if
    /// the positions of one were all right or all wrong.
    pub probe_top1_se: f64,
    /// Share of samples whose class is among the linear probe's five best; `None` with at most five
    /// classes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probe_top5: Option<f64>,
    /// L2 penalty of the probe, chosen on a tenth of the training samples.
    pub probe_l2: f64,
}

impl Row {
    /// Evaluates one encoder's features.
    pub fn new(name: &str, split: &Split, seed: u64, device: &Device) -> Self {
        let is_of_frames = split.val.of_each.is_some();
        let knn = (!is_of_frames).then(|| knn(split, device));
        let probe = probe(split, seed, device);
        Self {
            name: name.to_owned(),
            dim: split.train.dim,
            knn_top1: knn.map(|knn| knn.top1),
            nearest_top1: knn.map(|knn| knn.nearest_top1),
            probe_top1: probe.top1,
            probe_top1_se: (probe.top1 * (1.0 - probe.top1) / split.val.n_samples() as f64).sqrt(),
            probe_top5: probe.top5,
            probe_l2: probe.strength,
        }
    }
}

impl Table {
    /// Returns the table as indented JSON.
    pub(crate) fn to_json(&self) -> String {
        let text = serde_json::to_string_pretty(self);
        text.expect("strings and numbers always become JSON") + "\n"
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            unit,
            train: _,
            val: _,
            n_train,
            n_val,
            n_classes,
            rows,
        } = self;
        let unit = match unit {
            EvalUnit::Samples => "",
            EvalUnit::Frames => ", position by position",
        };
        writeln!(
            f,
            "{n_classes} classes, {n_train} training and {n_val} validation samples{unit}"
        )?;
        writeln!(f, "top-1 in %, linear probe ± one standard error\n")?;
        let width = rows
            .iter()
            .map(|row| row.name.chars().count())
            .max()
            .unwrap_or(0);
        write!(f, "{:width$}   k-NN   linear probe   top-5", "")?;
        for row in rows {
            let percent = |share: Option<f64>| match share {
                Some(share) => format!("{:.1}", 100.0 * share),
                None => "–".to_owned(),
            };
            let [knn, top5] = [row.knn_top1, row.probe_top5].map(percent);
            write!(
                f,
                "\n{:width$}  {knn:>5}    {:5.1} ± {:3.1}   {top5:>5}",
                row.name,
                100.0 * row.probe_top1,
                100.0 * row.probe_top1_se,
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, probe_top5: Option<f64>) -> Row {
        Row {
            name: name.to_owned(),
            dim: 192,
            knn_top1: Some(0.4512),
            nearest_top1: Some(0.4),
            probe_top1: 0.5,
            probe_top1_se: 0.0158,
            probe_top5,
            probe_l2: 0.01,
        }
    }

    #[test]
    fn columns_are_aligned() {
        let rows = vec![row("teacher", Some(1.0)), row("raw pixels", None)];
        let table = Table {
            unit: EvalUnit::Samples,
            train: "train".into(),
            val: "val".into(),
            n_train: 5000,
            n_val: 1000,
            n_classes: 10,
            rows,
        };
        let expected = "\
10 classes, 5000 training and 1000 validation samples
top-1 in %, linear probe ± one standard error

             k-NN   linear probe   top-5
teacher      45.1     50.0 ± 1.6   100.0
raw pixels   45.1     50.0 ± 1.6       –";
        assert_eq!(table.to_string(), expected);
    }

    #[test]
    fn standard_error_counts_samples_of_the_validation_set() {
        // A meaningless feature and random labels: about half are right.
        let features = |n: usize, of_each: Option<Vec<usize>>| super::super::Features {
            values: (0..n).map(|i| (i * 7 % 11) as f32).collect(),
            dim: 1,
            labels: (0..n).map(|i| i / 2 % 2).collect(),
            of_each,
        };
        let split = Split {
            train: features(400, None),
            val: features(100, None),
            n_classes: 2,
        };
        let row = Row::new("coin", &split, 1, &Device::flex());
        let p = row.probe_top1;
        assert!((row.probe_top1_se - (p * (1.0 - p) / 100.0).sqrt()).abs() < 1e-12);
        assert!((0.04..=0.05).contains(&row.probe_top1_se), "{row:?}");
        assert!(row.knn_top1.is_some());
        // 100 frames of five utterances count as five.
        let split = Split {
            train: features(400, Some(vec![40; 10])),
            val: features(100, Some(vec![20; 5])),
            n_classes: 2,
        };
        let row = Row::new("frames of a coin", &split, 1, &Device::flex());
        let p = row.probe_top1;
        assert!((row.probe_top1_se - (p * (1.0 - p) / 5.0).sqrt()).abs() < 1e-12);
        assert_eq!(row.knn_top1, None);
    }

    #[test]
    fn json_has_every_result() {
        let rows = vec![row("teacher", None)];
        let table = Table {
            unit: EvalUnit::Frames,
            train: "train".into(),
            val: "val".into(),
            n_train: 2,
            n_val: 1,
            n_classes: 3,
            rows,
        };
        let json: serde_json::Value = serde_json::from_str(&table.to_json()).expect("JSON");
        assert_eq!(json["rows"][0]["knn_top1"], 0.4512);
        assert_eq!(json["rows"][0].get("probe_top5"), None);
        assert_eq!(json["n_val"], 1);
        assert_eq!(json["of"], "frames");
    }
}
