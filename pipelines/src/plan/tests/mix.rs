//! Properties of every mixture, for any datasets, shares, lanes and bad rows, by count and by cost.

use super::*;

/// Generates layouts of one to three datasets, and their weights.
fn datasets() -> impl Strategy<Value = Vec<(Vec<Vec<u64>>, f64)>> {
    let weight = prop_oneof![Just(1.0), 0.05_f64..20.0];
    prop::collection::vec((layouts(), weight), 1..4)
}

/// Plans steps of four samples a lane, or of a cost that holds a few; rows cost between 1 and 60, and
/// one in sixteen is too short.
fn mixed(datasets: &[(Vec<Vec<u64>>, f64)], seed: u64, lanes: usize, by_cost: bool) -> Plan {
    let layouts = datasets
        .iter()
        .map(|(shards, _)| Layout::new(shards.iter().map(Vec::as_slice)));
    let layout = Layout::joined(layouts);
    let first_rows: Vec<u64> = (0..datasets.len())
        .map(|dataset| layout.dataset_rows(dataset).start)
        .collect();
    let cost = |row: u64| match row.wrapping_mul(0x9E37_79B9_7F4A_7C15 ^ seed) >> 58 {
        // No dataset is left out entirely.
        short @ 0..4 => u32::from(first_rows.contains(&row)) * (1 + short as u32),
        cost => cost as u32,
    };
    let costs = Costs::new(&(0..layout.rows()).map(cost).collect::<Vec<_>>());
    let step = if by_cost {
        StepSize::Cost(150 * lanes as u64)
    } else {
        StepSize::Samples(4 * lanes)
    };
    let config = PlanConfig {
        seed,
        lanes,
        step,
        window_chunks: 3,
    };
    let shares: Vec<Share> = datasets
        .iter()
        .map(|(_, weight)| Share::Weight(*weight))
        .collect();
    Plan::mixed(layout, config, by_cost.then_some(costs), &shares).expect("a plan that can work")
}

/// Returns the samples of all ranks in the steps `steps`, step by step and lane by lane, where some
/// bad rows are known from before and the others are met.
fn steps_of(
    plan: &Plan,
    world: usize,
    steps: Range<u64>,
    known: &BadRows,
    bad: &BadRows,
) -> Vec<Vec<Vec<(u64, u64)>>> {
    let n_datasets = plan.mix().n_datasets();
    let n_lanes = plan.config().lanes / world;
    let sources = (0..world).flat_map(|rank| {
        let lanes = plan.lanes(rank * n_lanes..(rank + 1) * n_lanes, steps.start, known);
        lanes.expect("good rows")
    });
    let slots = sources.map(|source| {
        let slots = source.flat_map(|window| window.slots);
        slots.filter(|slot| !bad.contains(slot.row)).peekable()
    });
    let mut slots: Vec<_> = slots.collect();
    let lane_step = |step: u64, lane: usize, sources: &mut [std::iter::Peekable<_>]| {
        let units = plan.units(step)..plan.units(step + 1);
        let taken = units.flat_map(|unit| {
            let source: &mut std::iter::Peekable<_> =
                &mut sources[plan.mix().dataset_of(lane, unit)];
            let slots: Vec<Slot> = match plan.lane_share() {
                StepSize::Samples(_) => source.next().into_iter().collect(),
                StepSize::Cost(_) => {
                    std::iter::from_fn(|| source.next_if(|slot: &Slot| slot.step == step)).collect()
                }
            };
            slots
        });
        places(&taken.collect::<Vec<_>>())
    };
    steps
        .map(|step| {
            let lanes = slots.chunks_mut(n_datasets).enumerate();
            lanes
                .map(|(lane, sources)| lane_step(step, lane, sources))
                .collect()
        })
        .collect()
}

fn dataset_of(plan: &Plan, row: u64) -> usize {
    let layout = plan.layout();
    let mut datasets = 0..layout.n_datasets();
    datasets
        .find(|&dataset| layout.dataset_rows(dataset).contains(&row))
        .expect("a row of some dataset")
}

fn all_planned(plan: &Plan) -> Vec<u64> {
    let rows = 0..plan.layout().rows();
    match plan.costs() {
        None => rows.collect(),
        Some(costs) => rows.filter(|&row| costs.of(row) > 0).collect(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_row_comes_once_in_every_epoch_of_its_dataset(
        datasets in datasets(), seed: u64, lanes in 1_usize..6, by_cost: bool,
    ) {
        let plan = mixed(&datasets, seed, lanes, by_cost);
        let mut seen: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        let sources = plan.lanes(0..lanes, 0, &BadRows::default()).expect("good rows");
        for (index, source) in sources.into_iter().enumerate() {
            let rows = plan.layout().dataset_rows(index % datasets.len());
            for window in source.take_while(|window| window.epoch < 2) {
                for slot in &window.slots {
                    prop_assert!(rows.contains(&slot.row));
                    let Place { shard, group, row_in_group } = plan.layout().place(slot.row);
                    prop_assert_eq!((slot.shard, slot.group, slot.row_in_group), (shard, group, row_in_group));
                    seen.entry(window.epoch).or_default().push(slot.row);
                }
            }
        }
        for rows in seen.values_mut() {
            rows.sort_unstable();
            prop_assert_eq!(&*rows, &all_planned(&plan));
        }
        // The same holds for the rows that steps take: none comes twice in an epoch.
        let mut taken: BTreeMap<(u64, u64), u64> = BTreeMap::new();
        let none = BadRows::default();
        for place in steps_of(&plan, 1, 0..30, &none, &none).into_iter().flatten().flatten() {
            *taken.entry(place).or_default() += 1;
        }
        prop_assert!(taken.values().all(|&times| times == 1));
    }

    #[test]
    fn a_step_is_the_same_for_any_number_of_ranks(
        datasets in datasets(), seed: u64, world in 1_usize..17, lanes_per_rank in 1_usize..4,
        step in 0_u64..60, by_cost: bool,
    ) {
        let plan = mixed(&datasets, seed, world * lanes_per_rank, by_cost);
        let none = BadRows::default();
        let one = steps_of(&plan, 1, step..step + 3, &none, &none);
        prop_assert_eq!(steps_of(&plan, world, step..step + 3, &none, &none), one);
    }

    #[test]
    fn a_resumed_step_equals_the_step_of_an_unbroken_run(
        datasets in datasets(), seed: u64, lanes in 1_usize..5, by_cost: bool,
        step in 0_u64..40, again in 0_u64..20,
        bad in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let plan = mixed(&datasets, seed, lanes, by_cost);
        let rows = plan.layout().rows();
        let bad: BadRows = bad.iter().map(|row| row.index(rows as usize) as u64).collect();
        let n_good = |dataset: usize| {
            let rows = plan.layout().dataset_rows(dataset);
            all_planned(&plan).into_iter().filter(|row| rows.contains(row) && !bad.contains(*row)).count()
        };
        prop_assume!((0..datasets.len()).all(|dataset| n_good(dataset) > 0));
        let none = BadRows::default();
        let unbroken = steps_of(&plan, 1, 0..step + again + 8, &none, &bad);
        for stop in [step, step + again] {
            let rest = &unbroken[stop as usize..stop as usize + 8];
            // All bad rows are known, also those that were only prefetched.
            prop_assert_eq!(steps_of(&plan, 1, stop..stop + 8, &bad, &bad), rest);
            // Only those that come before are known.
            let met = met_before(&plan, stop, &bad);
            prop_assert_eq!(steps_of(&plan, 1, stop..stop + 8, &met, &bad), rest);
        }
    }

    #[test]
    fn every_lane_has_its_share_of_each_dataset(
        datasets in datasets(), seed: u64, lanes in 1_usize..9, n_steps in 1_u64..60, by_cost: bool,
    ) {
        let plan = mixed(&datasets, seed, lanes, by_cost);
        let none = BadRows::default();
        let steps = steps_of(&plan, 1, 0..n_steps, &none, &none);
        let n_units = plan.units(n_steps) as f64;
        let allowed = f64::from(datasets.len().next_power_of_two().trailing_zeros()) + 1e-3;
        for lane in 0..lanes {
            for dataset in 0..datasets.len() {
                let of_lane = steps.iter().map(|lanes| &lanes[lane]);
                let n = if by_cost {
                    // Each step of a lane is of one dataset, and never empty.
                    of_lane.filter(|rows| rows.iter().all(|&(_, row)| dataset_of(&plan, row) == dataset)).count()
                } else {
                    of_lane.flatten().filter(|&&(_, row)| dataset_of(&plan, row) == dataset).count()
                };
                let wanted = plan.mix().share(dataset) * n_units;
                prop_assert!((n as f64 - wanted).abs() <= allowed, "{n} of {wanted}");
            }
        }
        if by_cost {
            for rows in steps.iter().flatten() {
                prop_assert!(!rows.is_empty());
                let costs = plan.costs().expect("costs");
                let longest = rows.iter().map(|&(_, row)| u64::from(costs.of(row))).max();
                prop_assert!(longest.expect("a row") * rows.len() as u64 <= 150);
            }
        }
    }
}

/// Returns the bad rows that lanes meet before `step`.
fn met_before(plan: &Plan, step: u64, bad: &BadRows) -> BadRows {
    let none = BadRows::default();
    let taken = steps_of(plan, 1, 0..step, &none, bad);
    let n_datasets = plan.mix().n_datasets();
    let lanes = plan.config().lanes;
    let sources = plan.lanes(0..lanes, 0, &none).expect("good rows");
    let mut met = Vec::new();
    for (index, source) in sources.into_iter().enumerate() {
        let (lane, dataset) = (index / n_datasets, index % n_datasets);
        // All rows before the last good row taken from this source.
        let of_lane = taken.iter().flat_map(|lanes| &lanes[lane]);
        let mut left = of_lane
            .filter(|&&(_, row)| dataset_of(plan, row) == dataset)
            .count();
        let mut slots = source.flat_map(|window| window.slots);
        while left > 0 {
            let row = slots.next().expect("endless").row;
            if bad.contains(row) {
                met.push(row);
            } else {
                left -= 1;
            }
        }
    }
    met.into_iter().collect()
}

#[test]
fn passes_are_epochs_of_each_dataset() {
    let layout = Layout::joined(
        [vec![10_u64; 30], vec![10; 10]].map(|groups| Layout::new([groups.as_slice()])),
    );
    let config = PlanConfig {
        seed: 3,
        lanes: 2,
        step: StepSize::Samples(12),
        window_chunks: 2,
    };
    let shares = [Share::Passes(1.0), Share::Passes(3.0)];
    let plan = Plan::mixed(layout, config, None, &shares).expect("a plan");
    // One epoch of 300 rows during three epochs of 100: 50 steps of 12.
    let none = BadRows::default();
    let mut times = vec![0; 400];
    for (_, row) in steps_of(&plan, 1, 0..50, &none, &none)
        .into_iter()
        .flatten()
        .flatten()
    {
        times[row as usize] += 1;
    }
    // Lanes cross the ends of epochs at different steps, two of a lane's samples apart at most.
    let n_of_first: u64 = times[..300].iter().sum();
    assert!((298..=302).contains(&n_of_first), "{n_of_first}");
    assert!(times[..300].iter().filter(|&&n| n == 1).count() >= 296);
    assert!(times[300..].iter().filter(|&&n| n == 3).count() >= 96);
}

#[test]
fn datasets_of_one_shape_have_different_orders() {
    let datasets = vec![(vec![vec![5; 40]], 1.0); 2];
    let plan = mixed(&datasets, 1, 1, false);
    let none = BadRows::default();
    let steps = steps_of(&plan, 1, 0..50, &none, &none);
    let rows = |dataset: usize| -> Vec<u64> {
        let rows = steps.iter().flatten().flatten().map(|&(_, row)| row);
        rows.filter(|&row| dataset_of(&plan, row) == dataset)
            .map(|row| row % 200)
            .collect()
    };
    assert_ne!(rows(0), rows(1));
}

#[test]
fn lanes_rejects_a_dataset_without_a_good_row() {
    let datasets = vec![(vec![vec![3]], 1.0), (vec![vec![2]], 1.0)];
    let plan = mixed(&datasets, 1, 1, false);
    let bad: BadRows = [3, 4].into_iter().collect();
    let error = plan
        .lanes(0..1, 0, &bad)
        .expect_err("nothing good")
        .to_string();
    assert!(
        error.contains("every row of dataset 2 of the mixture is known to be bad"),
        "{error}"
    );
}
