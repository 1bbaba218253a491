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
    /// Keeps the denominator from zero.
    pub eps: f64,
    /// Where `eps` enters.
    pub eps_form: EpsForm,
    /// Decoupled weight decay, multiplied by the learning rate.
    pub weight_decay: f64,
    /// Which parameters decay.
    pub decayed: Decayed,
    /// Largest global L2 norm of the gradients; without it nothing is clipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip_norm: Option<f64>,
    /// How the learning rate goes.
    pub schedule: LrSchedule,
}

/// Where `eps` enters the denominator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EpsForm {
    /// √v + eps, the bias corrected afterwards: fairseq's Adam.
    BeforeCorrection,
    /// √v̂ + eps with the corrected v̂: PyTorch's `AdamW`.
    AfterCorrection,
}

/// Which parameters decay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Decayed {
    /// Every one, as fairseq's composite optimizer does in fact.
    All,
    /// Those with two or more dimensions, but for the class token (BEiT).
    Matrices,
}

impl Decayed {
    /// Whether the parameter of this name and shape decays.
    pub fn covers(self, name: &str, shape: &[usize]) -> bool {
        match self {
            Self::All => true,
            Self::Matrices => shape.len() >= 2 && !name.ends_with("cls_token"),
        }
    }
}
