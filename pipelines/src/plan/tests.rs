//! Properties of every plan, for any layout, seed, number of lanes, window, and bad rows.

mod by_cost;
mod mix;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use proptest::prelude::*;

use super::*;
use crate::Error;
use crate::config::{Share, StepSize};

/// Generates rows per row group, per shard.
fn layouts() -> impl Strategy<Value = Vec<Vec<u64>>> {
    let few_small = prop::collection::vec(prop::collection::vec(0_u64..7, 0..6), 1..5);
    let one_group = (1_u64..300).prop_map(|rows| vec![vec![rows]]);
    let uneven = prop::collection::vec(prop_oneof![4 => 1_u64..4, 1 => 30_u64..60], 1..40)
        .prop_map(|groups| groups.chunks(7).map(<[u64]>::to_vec).collect());
    let thousands = prop::collection::vec(1_u64..3, 1000..3000).prop_map(|groups| vec![groups]);
    prop_oneof![3 => few_small, 2 => one_group, 3 => uneven, 1 => thousands]
        .prop_filter("some rows", |shards: &Vec<Vec<u64>>| {
            shards.iter().flatten().sum::<u64>() > 0
        })
}

fn plan(shards: &[Vec<u64>], seed: u64, lanes: usize, per_lane: usize, window: usize) -> Plan {
    let layout = Layout::new(shards.iter().map(Vec::as_slice));
    let config = PlanConfig {
        seed,
        lanes,
        step: StepSize::Samples(lanes * per_lane),
        window_chunks: window,
    };
    Plan::new(layout, config, None).expect("a plan that can work")
}

/// Returns the first `n` good samples of a lane from `step` on, as a reader that meets the bad rows
/// takes them.
fn walk(
    plan: &Plan,
    lane: usize,
    step: u64,
    known: &BadRows,
    bad: &BadRows,
    n: usize,
) -> Vec<Slot> {
    let source = plan
        .lanes(lane..lane + 1, step, known)
        .expect("some good rows")
        .remove(0);
    let slots = source.flat_map(|window| window.slots);
    slots
        .filter(|slot| !bad.contains(slot.row))
        .take(n)
        .collect()
}

fn places(slots: &[Slot]) -> Vec<(u64, u64)> {
    slots.iter().map(|slot| (slot.epoch, slot.row)).collect()
}

/// Returns the bad rows that all lanes met before `step`, without knowing any before.
fn met(plan: &Plan, step: u64, bad: &BadRows) -> BadRows {
    let lanes = plan
        .lanes(0..plan.config().lanes, 0, &BadRows::default())
        .expect("good rows");
    let mut met = Vec::new();
    for lane in lanes {
        let StepSize::Samples(per_lane) = plan.lane_share() else {
            panic!("a plan by count");
        };
        let mut left = step * per_lane as u64;
        let mut slots = lane.flat_map(|window| window.slots);
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn every_row_comes_once_in_every_epoch(
        shards in layouts(), seed: u64, lanes in 1_usize..10, window in 1_usize..6,
    ) {
        let plan = plan(&shards, seed, lanes, 1, window);
        let rows = plan.layout().rows();
        let mut seen: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for lane in plan.lanes(0..lanes, 0, &BadRows::default()).expect("good rows") {
            for window in lane.take_while(|window| window.epoch < 3) {
                for slot in &window.slots {
                    let Place { shard, group, row_in_group } = plan.layout().place(slot.row);
                    prop_assert_eq!((slot.shard, slot.group, slot.row_in_group), (shard, group, row_in_group));
                    let held = &window.groups[slot.window_group as usize];
                    prop_assert_eq!((held.shard, held.group), (shard, group));
                    prop_assert_eq!(slot.epoch, window.epoch);
                    seen.entry(slot.epoch).or_default().push(slot.row);
                }
                for (index, group) in window.groups.iter().enumerate() {
                    let n = window.slots.iter().filter(|slot| slot.window_group == index as u32).count();
                    prop_assert_eq!(group.n_slots as usize, n);
                    prop_assert!(n > 0);
                }
            }
        }
        prop_assert_eq!(seen.len(), 3);
        for rows_of_epoch in seen.values_mut() {
            rows_of_epoch.sort_unstable();
            prop_assert!(rows_of_epoch.iter().copied().eq(0..rows));
        }
    }

    #[test]
    fn a_resumed_step_equals_the_step_of_an_unbroken_run(
        shards in layouts(), seed: u64, lanes in 1_usize..6, per_lane in 1_usize..5,
        window in 1_usize..5, step in 0_u64..120, again in 0_u64..40,
        bad in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let plan = plan(&shards, seed, lanes, per_lane, window);
        let rows = plan.layout().rows();
        let bad: BTreeSet<u64> = bad.iter().map(|row| row.index(rows as usize) as u64).collect();
        prop_assume!((bad.len() as u64) < rows);
        let bad: BadRows = bad.into_iter().collect();
        let none = BadRows::default();
        for lane in 0..lanes {
            let n = (step + again) as usize * per_lane + 20;
            let unbroken = walk(&plan, lane, 0, &none, &bad, n);
            // Stopped at `step` with the bad rows met so far, and once more later.
            for stop in [step, step + again] {
                let resumed = walk(&plan, lane, stop, &met(&plan, stop, &bad), &bad, 20);
                let from = stop as usize * per_lane;
                prop_assert_eq!(places(&resumed), places(&unbroken[from..from + 20]));
                // Bad rows that were met by prefetching change nothing.
                let resumed = walk(&plan, lane, stop, &bad, &bad, 20);
                prop_assert_eq!(places(&resumed), places(&unbroken[from..from + 20]));
            }
        }
    }

    #[test]
    fn the_global_batch_is_the_same_for_any_number_of_ranks(
        shards in layouts(), seed: u64, world in 1_usize..17, lanes_per_rank in 1_usize..4,
        per_lane in 1_usize..4, window in 1_usize..5, step in 0_u64..50,
    ) {
        let lanes = world * lanes_per_rank;
        let plan = plan(&shards, seed, lanes, per_lane, window);
        let none = BadRows::default();
        let batch_of = |world: usize| -> Vec<(u64, u64)> {
            let carried = lanes / world;
            (0..world).flat_map(|rank| {
                let sources = plan.lanes(rank * carried..(rank + 1) * carried, step, &none);
                sources.expect("good rows").into_iter().flat_map(|lane| {
                    places(&lane.flat_map(|window| window.slots).take(per_lane).collect::<Vec<_>>())
                }).collect::<Vec<_>>()
            }).collect()
        };
        let one = batch_of(1);
        prop_assert_eq!(one.len(), lanes * per_lane);
        prop_assert_eq!(&batch_of(world), &one);
    }

    #[test]
    fn lanes_never_drift_more_than_one_row_apart(
        shards in layouts(), seed: u64, lanes in 1_usize..9, epoch in 0_u64..1_000_000,
    ) {
        let plan = plan(&shards, seed, lanes, 1, 2);
        let dataset = &plan.0.datasets[0];
        let walked = |lane: usize| -> u64 {
            // Complete turns of the lanes are equal; epochs after them are counted.
            let turns = epoch / lanes as u64;
            let rest = turns * lanes as u64..epoch;
            turns * plan.layout().rows()
                + rest.map(|epoch| dataset.slice_rows(dataset.slice_of(lane, epoch))).sum::<u64>()
        };
        let all: Vec<u64> = (0..lanes).map(walked).collect();
        let spread = all.iter().max().expect("a lane") - all.iter().min().expect("a lane");
        prop_assert!(spread <= 1, "lanes are {spread} rows apart before epoch {epoch}");
        // The same place is found by seeking there: the first row of the epoch.
        for (lane, &samples) in all.iter().enumerate() {
            let slot = walk(&plan, lane, samples, &BadRows::default(), &BadRows::default(), 1)[0];
            prop_assert!(slot.epoch >= epoch);
        }
    }

    #[test]
    fn a_finite_pass_takes_each_row_in_file_order(shards in layouts()) {
        let layout = Layout::new(shards.iter().map(Vec::as_slice));
        let slots: Vec<Slot> = file_order(&layout).flat_map(|window| window.slots).collect();
        prop_assert!(slots.iter().map(|slot| slot.row).eq(0..layout.rows()));
        for slot in slots {
            let Place { shard, group, row_in_group } = layout.place(slot.row);
            prop_assert_eq!((slot.shard, slot.group, slot.row_in_group), (shard, group, row_in_group));
        }
    }
}

#[test]
fn epochs_and_seeds_have_different_orders() {
    let shards = [vec![10; 30]];
    let first = |seed, epoch: u64| {
        let plan = plan(&shards, seed, 2, 1, 4);
        places(&walk(
            &plan,
            0,
            epoch * 150,
            &BadRows::default(),
            &BadRows::default(),
            150,
        ))
    };
    let rows = |places: Vec<(u64, u64)>| places.into_iter().map(|(_, row)| row).collect::<Vec<_>>();
    assert_ne!(rows(first(1, 0)), rows(first(1, 1)));
    assert_ne!(rows(first(1, 0)), rows(first(2, 0)));
    assert_eq!(first(1, 1), first(1, 1));
}

#[test]
fn a_window_mixes_its_chunks() {
    let plan = plan(&[vec![100; 16]], 3, 2, 1, 4);
    let window = plan.lanes(0..1, 0, &BadRows::default()).expect("rows")[0]
        .next()
        .expect("endless");
    assert_eq!((window.groups.len(), window.slots.len()), (4, 400));
    let switches = window
        .slots
        .windows(2)
        .filter(|pair| pair[0].group != pair[1].group)
        .count();
    assert!(
        switches > 200,
        "only {switches} of 399 neighbours are in different groups"
    );
}

#[test]
fn a_resumed_window_fetches_only_what_is_left() {
    let plan = plan(&[vec![10; 16]], 3, 1, 1, 16);
    let mut lane = plan
        .lanes(0..1, 158, &BadRows::default())
        .expect("rows")
        .remove(0);
    let window = lane.next().expect("endless");
    assert_eq!(window.slots.len(), 2);
    assert!(window.groups.len() <= 2);
    assert_eq!(lane.next().expect("endless").epoch, 1);
}

#[test]
fn all_invalid_settings_are_reported_at_once() {
    let config = PlanConfig {
        seed: 0,
        lanes: 3,
        step: StepSize::Samples(4),
        window_chunks: 0,
    };
    let Err(Error::Config(problems)) = Plan::new(Layout::new([&[][..]]), config, None) else {
        panic!("a plan of nothing was made");
    };
    assert_eq!(problems.len(), 3, "{problems:?}");
    let plan = plan(&[vec![2]], 0, 1, 1, 1);
    let all_bad: BadRows = [0, 1].into_iter().collect();
    let error = plan
        .lanes(0..1, 0, &all_bad)
        .expect_err("nothing good")
        .to_string();
    assert!(
        error.contains("every row of the dataset is known to be bad"),
        "{error}"
    );
}

#[test]
fn a_million_row_groups_are_planned_without_a_list_of_rows() {
    let plan = plan(&vec![vec![1000; 1000]; 1000], 1, 1000, 4, 8);
    // Lanes of a million rows: step 25 million of four samples is the start of epoch 100.
    let step = 25_000_000;
    let mut lanes = plan
        .lanes(0..1000, step, &BadRows::default())
        .expect("good rows");
    let window = lanes[5].next().expect("endless");
    assert_eq!((window.epoch, window.groups.len()), (100, 8));
}
