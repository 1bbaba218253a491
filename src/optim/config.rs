//! The table `[optim]`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schedule::LrSchedule;

/// The optimizer: the table `[optim]`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OptimConfig {
    /// Peak learning rate.
    pub lr: f64,
    /// Decay rates of the first and second moment.
    pub betas: [f64; 2],
    /// Added to the denominator.
    pub eps: f64,
    /// Whether `eps` is added before or after the bias correction.
    pub eps_form: EpsForm,
    /// Decoupled weight decay, multiplied by the learning rate.
    pub weight_decay: f64,
    /// The parameters that decay.
    pub decayed: Decayed,
    /// Greatest global L2 norm of the gradients; if absent, nothing is clipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip_norm: Option<f64>,
    /// Schedule of the learning rate.
    pub schedule: LrSchedule,
}

/// Whether `eps` is added to the denominator before or after the bias correction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EpsForm {
    /// √v + eps, then the bias correction: fairseq's Adam.
    BeforeCorrection,
    /// √v̂ + eps with the corrected v̂: PyTorch's `AdamW`.
    AfterCorrection,
}

/// The parameters that decay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Decayed {
    /// All, which is the effect of fairseq's composite optimizer.
    All,
    /// All with two or more dimensions except the class token (BEiT).
    Matrices,
}

impl Decayed {
    /// Returns whether the parameter of this name and shape decays.
    pub fn covers(self, name: &str, shape: &[usize]) -> bool {
        match self {
            Self::All => true,
            Self::Matrices => shape.len() >= 2 && !name.ends_with("cls_token"),
        }
    }
}
