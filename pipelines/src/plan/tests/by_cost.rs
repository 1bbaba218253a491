//! Properties of every plan by cost, for any lengths.

use super::*;

/// Plans a dataset whose rows cost between 1 and 60, some of them too short to be planned.
fn by_cost(shards: &[Vec<u64>], seed: u64, lanes: usize, share: u64, window: usize) -> Plan {
    let layout = Layout::new(shards.iter().map(Vec::as_slice));
    let cost = |row: u64| match row.wrapping_mul(0x9E37_79B9_7F4A_7C15 ^ seed) >> 58 {
        short @ 0..4 => u32::from(row == 0) * (1 + short as u32),
        cost => cost as u32,
    };
    let costs = Costs::new(&(0..layout.rows()).map(cost).collect::<Vec<_>>());
    let config = PlanConfig {
        seed,
        lanes,
        step: StepSize::Cost(lanes as u64 * share),
        window_chunks: window,
    };
    Plan::new(layout, config, Some(costs)).expect("a plan that can work")
}

/// Returns the slots of a lane's first `n_steps` steps from `step` on, by step.
fn walk_steps(
    plan: &Plan,
    lane: usize,
    step: u64,
    n_steps: u64,
    known: &BadRows,
) -> BTreeMap<u64, Vec<(u64, u64)>> {
    let source = plan.lanes(lane..lane + 1, step, known).expect("good rows");
    let slots = source.into_iter().flatten().flat_map(|window| window.slots);
    let mut steps = BTreeMap::new();
    for slot in slots.take_while(|slot| slot.step < step + n_steps) {
        let rows: &mut Vec<_> = steps.entry(slot.step).or_default();
        rows.push((slot.epoch, slot.row));
    }
    steps
}

fn padded(plan: &Plan, rows: &[(u64, u64)]) -> u64 {
    let costs = plan.costs().expect("a plan by cost");
    let longest = rows.iter().map(|&(_, row)| costs.of(row)).max();
    rows.len() as u64 * u64::from(longest.unwrap_or(0))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn every_planned_row_comes_once_in_every_epoch(
        shards in layouts(), seed: u64, lanes in 1_usize..8, share in 63_u64..400, window in 1_usize..6,
    ) {
        let plan = by_cost(&shards, seed, lanes, share, window);
        let costs = plan.costs().expect("a plan by cost");
        let mut seen: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for lane in plan.lanes(0..lanes, 0, &BadRows::default()).expect("rows") {
            for window in lane.take_while(|window| window.epoch < 3) {
                for slot in &window.slots {
                    let Place { shard, group, row_in_group } = plan.layout().place(slot.row);
                    prop_assert_eq!((slot.shard, slot.group, slot.row_in_group), (shard, group, row_in_group));
                    seen.entry(slot.epoch).or_default().push(slot.row);
                }
            }
        }
        let planned: Vec<u64> = (0..plan.layout().rows()).filter(|&row| costs.of(row) > 0).collect();
        prop_assert_eq!(planned.len() as u64, plan.n_planned());
        prop_assert_eq!(seen.len(), 3);
        for rows in seen.values_mut() {
            rows.sort_unstable();
            prop_assert_eq!(&*rows, &planned);
        }
    }

    #[test]
    fn a_resumed_step_equals_the_step_of_an_unbroken_run_for_any_bad_rows(
        shards in layouts(), seed: u64, lanes in 1_usize..5, share in 63_u64..300, window in 1_usize..5,
        step in 0_u64..60, again in 0_u64..20,
        bad in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let plan = by_cost(&shards, seed, lanes, share, window);
        let rows = plan.layout().rows();
        let bad: BadRows = bad.iter().map(|row| row.index(rows as usize) as u64).collect();
        let n_good = (0..rows).filter(|&row| {
            plan.costs().expect("costs").of(row) > 0 && !bad.contains(row)
        });
        prop_assume!(n_good.count() > 0);
        let none = BadRows::default();
        for lane in 0..lanes {
            let unbroken = walk_steps(&plan, lane, 0, step + again + 10, &none);
            prop_assert!(unbroken.keys().copied().eq(0..step + again + 10), "a step is missing");
            for stop in [step, step + again] {
                let resumed = walk_steps(&plan, lane, stop, 10, &none);
                prop_assert!(resumed.iter().eq(unbroken.range(stop..stop + 10)));
                // A bad row leaves its step short and moves nothing.
                let without = walk_steps(&plan, lane, stop, 10, &bad);
                for (step, rows) in unbroken.range(stop..stop + 10) {
                    let mut rows = rows.clone();
                    rows.retain(|&(_, row)| !bad.contains(row));
                    prop_assert_eq!(without.get(step).cloned().unwrap_or_default(), rows);
                }
            }
        }
    }

    #[test]
    fn micro_batches_stay_within_their_share_and_are_balanced(
        seed: u64, lanes in 1_usize..6, share in 600_u64..900, window in 4_usize..8,
    ) {
        // Windows of many micro-batches: the remainder at their ends is divided among them.
        let plan = by_cost(&[vec![100; 80]], seed, lanes, share, window);
        let none = BadRows::default();
        let steps: Vec<_> = (0..lanes).map(|lane| walk_steps(&plan, lane, 0, 40, &none)).collect();
        let (mut sum, mut largest_sum) = (0, 0);
        for step in 0..40 {
            let costs = steps.iter().map(|lane| padded(&plan, &lane[&step]));
            for cost in costs.clone() {
                prop_assert!(0 < cost && cost <= share, "step {step} takes {cost} of {share}");
            }
            sum += costs.clone().sum::<u64>();
            largest_sum += lanes as u64 * costs.max().expect("a lane");
        }
        let used = sum as f64 / (40 * lanes as u64 * share) as f64;
        prop_assert!(used > 0.75, "steps take {used} of what they may");
        let balance = sum as f64 / largest_sum as f64;
        prop_assert!(balance > 0.8, "the mean lane has {balance} of the work of the largest");
    }

    #[test]
    fn a_step_is_the_same_for_any_number_of_ranks(
        shards in layouts(), seed: u64, share in 63_u64..300, step in 0_u64..30,
        world in 1_usize..17, lanes_per_rank in 1_usize..4,
    ) {
        let lanes = world * lanes_per_rank;
        let plan = by_cost(&shards, seed, lanes, share, 2);
        let none = BadRows::default();
        let of_rank = |world: usize| -> Vec<Vec<(u64, u64)>> {
            let carried = lanes / world;
            (0..world).flat_map(|rank| {
                let lanes = plan.lanes(rank * carried..(rank + 1) * carried, step, &none).expect("rows");
                lanes.into_iter().map(|lane| {
                    let slots = lane.flat_map(|window| window.slots);
                    places(&slots.take_while(|slot| slot.step == step).collect::<Vec<_>>())
                }).collect::<Vec<_>>()
            }).collect()
        };
        let one = of_rank(1);
        prop_assert_eq!(&of_rank(world), &one);
    }
}

#[test]
fn steps_mix_lengths_and_epochs_differ() {
    let plan = by_cost(&[vec![50; 40]], 3, 1, 600, 40);
    let none = BadRows::default();
    let steps = walk_steps(&plan, 0, 0, 200, &none);
    let costs = plan.costs().expect("a plan by cost");
    let lengths: Vec<u32> = steps.values().map(|rows| costs.of(rows[0].1)).collect();
    // Micro-batches of neighbours in length come in random order: as many rise as fall.
    let n_rising = lengths.windows(2).filter(|pair| pair[0] < pair[1]).count();
    assert!((70..130).contains(&n_rising), "{n_rising} of 199 rise");
    let epoch = |epoch: u64| -> Vec<u64> {
        let rows = steps.values().flatten().filter(|&&(of, _)| of == epoch);
        rows.map(|&(_, row)| row).take(100).collect()
    };
    assert_ne!(epoch(0), epoch(1));
}

#[test]
fn rejects_rows_longer_than_a_lanes_share() {
    let config = PlanConfig {
        seed: 0,
        lanes: 2,
        step: StepSize::Cost(100),
        window_chunks: 1,
    };
    let plan = |costs: Vec<u32>| {
        let layout = Layout::new([&[costs.len() as u64][..]]);
        let error = Plan::new(layout, config, Some(Costs::new(&costs)));
        error.expect_err("cannot work").to_string()
    };
    let text = plan(vec![10, 51]);
    assert!(text.contains("50 each") && text.contains("51"), "{text}");
    let text = plan(vec![0, 0]);
    assert!(text.contains("too short"), "{text}");
}
