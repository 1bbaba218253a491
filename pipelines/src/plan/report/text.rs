//! A report as aligned tables, for a terminal.

use std::fmt;

use super::{DatasetReport, Report};

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.show_ranks(f)?;
        writeln!(f)?;
        self.show_steps(f)?;
        writeln!(f)?;
        self.show_datasets(f)?;
        writeln!(f)?;
        self.show_reads(f)?;
        writeln!(f)?;
        self.show_shuffle(f)
    }
}

impl Report {
    /// Writes what each number of ranks needs and, in a plan by cost, how evenly it shares the work.
    fn show_ranks(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let balances = self.cost.as_ref().map(|cost| &cost.balance);
        let rows = self.memory.iter().map(|rank| {
            let mut row = vec![
                rank.world.to_string(),
                (self.lanes / rank.world).to_string(),
                mib(rank.least_bytes),
                mib(rank.ahead_bytes),
            ];
            if let Some(balances) = balances {
                let found = balances.iter().find(|(world, _)| *world == rank.world);
                // A single rank waits for no other.
                row.push(percent(found.map_or(1.0, |&(_, balance)| balance), 1));
            }
            row
        });
        let mut head = vec![
            "ranks",
            "lanes per rank",
            "memory, least",
            "memory to read ahead",
        ];
        head.extend(balances.map(|_| "mean / largest work"));
        let rows: Vec<_> = rows.collect();
        table(f, "memory per rank (data.memory)", &head, &rows, &[])
    }

    /// Writes the size of a step and, in a plan by cost, how much of it padding takes.
    fn show_steps(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places = usize::from(self.cost.is_some());
        let mut rows = vec![
            pair("lanes", self.lanes),
            pair(
                "samples per lane",
                format!("{:.places$}", self.batch / self.lanes as f64),
            ),
            pair("samples per step", format!("{:.places$}", self.batch)),
        ];
        if let Some(cost) = &self.cost {
            rows.extend([
                pair("frames or tokens per lane, at most", cost.lane_share),
                pair("used of that, with padding", percent(cost.used_share, 1)),
                pair("added by padding", percent(cost.padding_share, 1)),
                pair("rows left out, too short", cost.left_out),
            ]);
        }
        pairs(f, "step", &rows)
    }

    /// Writes a line for each dataset, in the order of the config.
    fn show_datasets(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = match self.cost {
            None => "share of samples",
            Some(_) => "share of cost",
        };
        let head = [
            "key",
            "rows",
            "shards",
            "row groups",
            "chunks",
            share,
            "steps",
            "read",
            "read again",
            "requests",
            "location",
        ];
        let n_datasets = self.datasets.len();
        let each = self.datasets.iter().enumerate();
        let rows: Vec<Vec<String>> = each
            .map(|(index, dataset)| {
                vec![
                    match n_datasets {
                        1 => "data.train".to_owned(),
                        _ => format!("data.train[{index}]"),
                    },
                    dataset.rows.to_string(),
                    dataset.shards.to_string(),
                    dataset.groups.to_string(),
                    dataset.chunks.to_string(),
                    percent(dataset.share, 2),
                    format!("{:.2}", dataset.steps_per_epoch),
                    mib(dataset.epoch_bytes),
                    percent(1.0 - dataset.bytes as f64 / dataset.epoch_bytes as f64, 1),
                    dataset.epoch_requests.to_string(),
                    dataset.url.clone(),
                ]
            })
            .collect();
        let text_columns = [0, head.len() - 1];
        table(f, "one epoch of each dataset", &head, &rows, &text_columns)?;
        if self.datasets.iter().any(DatasetReport::cuts_groups) {
            writeln!(
                f,
                "  More chunks than row groups: with fewer than four row groups per lane, groups are \
                 cut, and lanes read them again."
            )?;
        }
        Ok(())
    }

    /// Writes the bytes and requests that the run makes, and the disk that a cache takes.
    fn show_reads(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = [
            pair(
                "bytes per sample",
                format!("{:.0} B", self.bytes_per_sample()),
            ),
            pair(
                "requests per sample",
                format!("{:.5}", self.requests_per_sample()),
            ),
            pair("disk for a cache of all reads", mib(self.cache_bytes())),
        ];
        pairs(f, "reads", &rows)
    }

    /// Writes how well samples are shuffled, in a lane and in a batch.
    fn show_shuffle(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let none = || "-".to_owned();
        let rows = [
            vec![
                "neighbours in a lane".to_owned(),
                percent(self.neighbour_shard_prob, 1),
                percent(self.neighbour_group_prob, 1),
            ],
            vec![
                "pairs in a batch".to_owned(),
                percent(self.batch_shard_prob, 1),
                none(),
            ],
            vec![
                "pairs drawn at random".to_owned(),
                percent(self.ideal_shard_prob, 1),
                none(),
            ],
            vec![
                "different ones in a batch".to_owned(),
                format!("{:.1}", self.shards_per_batch),
                format!("{:.1}", self.groups_per_batch),
            ],
        ];
        let title = format!("shuffle, measured over {} steps", self.drawn_steps);
        let head = ["", "same shard", "same row group"];
        table(f, &title, &head, &rows, &[0])
    }
}

/// Writes a title, a head and rows in aligned columns: those of `text_columns` to the left, the
/// others to the right.
fn table(
    f: &mut fmt::Formatter<'_>,
    title: &str,
    head: &[&str],
    rows: &[Vec<String>],
    text_columns: &[usize],
) -> fmt::Result {
    let head: Vec<String> = head.iter().map(|&name| name.to_owned()).collect();
    writeln!(f, "{title}")?;
    lines(
        f,
        &[std::slice::from_ref(&head), rows].concat(),
        text_columns,
    )
}

/// Writes a title and a line for each name and value.
fn pairs(f: &mut fmt::Formatter<'_>, title: &str, rows: &[Vec<String>]) -> fmt::Result {
    writeln!(f, "{title}")?;
    lines(f, rows, &[0])
}

fn pair(name: &str, value: impl fmt::Display) -> Vec<String> {
    vec![name.to_owned(), value.to_string()]
}

fn lines(f: &mut fmt::Formatter<'_>, rows: &[Vec<String>], text_columns: &[usize]) -> fmt::Result {
    let n_columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..n_columns).filter_map(width).collect();
    for row in rows {
        let cells = row.iter().zip(&widths).enumerate();
        let cells = cells.map(|(column, (cell, &width))| {
            if text_columns.contains(&column) {
                format!("{cell:<width$}")
            } else {
                format!("{cell:>width$}")
            }
        });
        let line = cells.collect::<Vec<_>>().join("   ");
        writeln!(f, "  {}", line.trim_end())?;
    }
    Ok(())
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

fn percent(share: f64, places: usize) -> String {
    format!("{:.places$} %", 100.0 * share)
}
