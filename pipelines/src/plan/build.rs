//! A plan, made from the layout of its datasets, the settings and the costs of rows.

use std::sync::Arc;

use super::config::PlanConfig;
use super::cost::Costs;
use super::dataset::DatasetOrder;
use super::layout::Layout;
use super::mix::Mix;
use crate::config::{Share, StepSize};
use crate::{Error, Result};

/// The order of samples, for any step and any lane. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Plan(pub(super) Arc<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) layout: Layout,
    pub(super) costs: Option<Costs>,
    pub(super) datasets: Vec<DatasetOrder>,
    pub(super) mix: Mix,
    pub(super) config: PlanConfig,
}

impl Plan {
    /// Plans the order of one dataset with this layout; `costs` are needed where steps have a cost, and
    /// leave out rows where they have none.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if a count is zero, if `lanes` does not divide the samples of a step, if a
    /// lane's share cannot hold the longest row, or if there are no rows.
    ///
    /// # Panics
    ///
    /// If steps have a cost and there are no `costs`, or not one for each row.
    pub fn new(layout: Layout, config: PlanConfig, costs: Option<Costs>) -> Result<Self> {
        Self::mixed(layout, config, costs, &[Share::Weight(1.0)])
    }

    /// Plans the order of a mixture: one share, above 0, for each dataset of the layout.
    ///
    /// # Errors
    ///
    /// As [`Plan::new`], for each dataset.
    ///
    /// # Panics
    ///
    /// As [`Plan::new`], and if there is not one share for each dataset.
    pub fn mixed(
        layout: Layout,
        config: PlanConfig,
        costs: Option<Costs>,
        shares: &[Share],
    ) -> Result<Self> {
        assert_eq!(
            shares.len(),
            layout.n_datasets(),
            "one share for each dataset"
        );
        let costs = match config.step {
            StepSize::Samples(_) => None,
            StepSize::Cost(_) => Some(costs.expect("steps by cost need costs")),
        };
        let problems = problems(&layout, &config, costs.as_ref());
        if !problems.is_empty() {
            return Err(Error::Config(problems));
        }
        let datasets = 0..layout.n_datasets();
        let datasets: Vec<DatasetOrder> = datasets
            .map(|dataset| DatasetOrder::new(&layout, dataset, &config, costs.as_ref()))
            .collect();
        let weights: Vec<f64> = shares
            .iter()
            .zip(&datasets)
            .map(|(share, dataset)| match share {
                Share::Weight(weight) => *weight,
                Share::Passes(passes) => passes * dataset.chunks.total_weight() as f64,
            })
            .collect();
        Ok(Self(Arc::new(Inner {
            mix: Mix::new(&weights, config.lanes),
            layout,
            costs,
            datasets,
            config,
        })))
    }

    /// Returns the size of one micro-batch, a lane's share of a step: a number of samples, or the
    /// most that its samples may cost.
    pub fn lane_share(&self) -> StepSize {
        let lanes = self.0.config.lanes;
        match self.0.config.step {
            StepSize::Samples(samples) => StepSize::Samples(samples / lanes),
            StepSize::Cost(cost) => StepSize::Cost(cost / lanes as u64),
        }
    }

    /// Returns the cost of each row, in a plan by cost.
    pub fn costs(&self) -> Option<&Costs> {
        self.0.costs.as_ref()
    }

    /// Returns the mix: the dataset that each unit of a lane comes from. A unit is a sample, or in a
    /// plan by cost a micro-batch.
    pub fn mix(&self) -> &Mix {
        &self.0.mix
    }

    /// Returns the units that a lane gives to `steps` steps.
    pub(crate) fn units(&self, steps: u64) -> u64 {
        match self.lane_share() {
            StepSize::Samples(samples) => steps * samples as u64,
            StepSize::Cost(_) => steps,
        }
    }

    /// Returns the rows that one epoch of each dataset takes: all except those that a plan by cost
    /// leaves out.
    pub fn n_planned(&self) -> u64 {
        self.0
            .datasets
            .iter()
            .map(|dataset| dataset.n_planned)
            .sum()
    }

    /// Returns the rows that an epoch of one dataset takes.
    pub fn n_planned_of(&self, dataset: usize) -> u64 {
        self.0.datasets[dataset].n_planned
    }

    /// Returns the settings that it was made with.
    pub fn config(&self) -> &PlanConfig {
        &self.0.config
    }

    /// Returns the layout of the datasets.
    pub fn layout(&self) -> &Layout {
        &self.0.layout
    }

    /// Returns the number of chunks that an epoch permutes, of all datasets.
    pub fn n_chunks(&self) -> usize {
        self.0
            .datasets
            .iter()
            .map(|dataset| dataset.chunks.len())
            .sum()
    }
}

/// Lists the settings that cannot work, as `key: problem`.
fn problems(layout: &Layout, config: &PlanConfig, costs: Option<&Costs>) -> Vec<String> {
    let mut problems = Vec::new();
    let lanes = config.lanes;
    if let Some(costs) = costs {
        assert_eq!(costs.len(), layout.rows(), "one cost for each row");
    }
    for dataset in 0..layout.n_datasets() {
        let rows = layout.dataset_rows(dataset);
        let key = match layout.n_datasets() {
            1 => "data.train".to_owned(),
            _ => format!("data.train[{dataset}]"),
        };
        if rows.is_empty() {
            problems.push(format!("{key}: the dataset has no rows to plan"));
        } else if costs.is_some_and(|costs| costs.leave_out(&rows)) {
            problems.push(format!("{key}: every row is too short to be planned"));
        }
    }
    match config.step {
        StepSize::Samples(batch) => {
            if lanes == 0 || batch == 0 || !batch.is_multiple_of(lanes) {
                problems.push(format!(
                    "data.lanes: {lanes} does not divide data.batch = {batch}"
                ));
            }
        }
        StepSize::Cost(cost) => {
            let longest = costs.map_or(0, Costs::longest);
            let share = cost / lanes.max(1) as u64;
            if lanes == 0 || share < longest.into() {
                problems.push(format!(
                    "data.lanes: {lanes} lanes take {share} each of a step, less than the longest \
                     sample, {longest}"
                ));
            }
        }
    }
    if config.window_chunks == 0 {
        problems.push("data.window_chunks: must be at least 1".to_owned());
    }
    problems
}
