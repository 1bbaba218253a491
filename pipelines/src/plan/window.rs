//! Windows: row groups that are held together, and the order in which their rows are taken.

use super::layout::Layout;

/// One sample's place in the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Slot {
    /// Epoch of its dataset, from 0.
    pub epoch: u64,
    /// Number of the row, among those of all datasets.
    pub row: u64,
    /// Shard, among those of all datasets.
    pub shard: u32,
    /// Row group of the shard.
    pub group: u32,
    /// Row of the row group.
    pub row_in_group: u32,
    /// Index of the row group in [`Window::groups`].
    pub window_group: u32,
    /// Step that the sample belongs to, in a plan by cost; 0 in a plan by count.
    pub step: u64,
}

/// Row groups that are held together, and the order in which their rows are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Epoch of all its slots.
    pub epoch: u64,
    /// The row groups to fetch, each once and each with at least one slot.
    pub groups: Vec<WindowGroup>,
    /// The rows in their order; at least one.
    pub slots: Vec<Slot>,
}

/// A row group that a window needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowGroup {
    /// Shard, among those of all datasets.
    pub shard: u32,
    /// Row group of the shard.
    pub group: u32,
    /// Slots of the window in this row group; after as many it can be released.
    pub n_slots: u32,
}

/// Returns one finite pass in file order, each row once: a window for each row group that has rows.
pub fn file_order(layout: &Layout) -> impl Iterator<Item = Window> + Send + use<> {
    let layout = layout.clone();
    (0..layout.n_groups()).filter_map(move |group_idx| {
        let rows = layout.group_rows(group_idx);
        let (shard, group) = layout.shard_of(group_idx);
        let slots: Vec<Slot> = rows
            .clone()
            .map(|row| Slot {
                epoch: 0,
                row,
                shard,
                group,
                row_in_group: (row - rows.start) as u32,
                window_group: 0,
                step: 0,
            })
            .collect();
        let groups = vec![WindowGroup {
            shard,
            group,
            n_slots: slots.len() as u32,
        }];
        (!slots.is_empty()).then_some(Window {
            epoch: 0,
            groups,
            slots,
        })
    })
}
