//! The length of each row of a dataset, read from columns of lengths and not from the media.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use futures::{StreamExt, TryStreamExt};

use super::dataset::Dataset;
use super::fetch::retry_damaged;
use super::footer::{FOOTERS_AT_ONCE, Footer};
use crate::{Error, Result};

/// Length of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Length {
    /// PCM frames as stored, bytes of text, or tokens.
    pub n: u64,
    /// Frames per second, where the dataset has a column for it.
    pub rate_hz: Option<u32>,
}

impl Dataset {
    /// Whether the dataset has a column of lengths.
    pub fn has_lengths(&self) -> bool {
        self.has_lengths
    }

    /// Passes the length of each row to `each`, in the order of the dataset. Reads all footers and the
    /// columns of lengths, some shards at a time.
    ///
    /// # Errors
    ///
    /// [`Error::Schema`] in a dataset without lengths, or where one is null or less than 0.
    pub async fn read_lengths(&self, mut each: impl FnMut(Length)) -> Result<()> {
        let reads = (0..self.shards.len()).map(|shard| self.lengths_of(shard));
        let mut reads = futures::stream::iter(reads).buffered(FOOTERS_AT_ONCE);
        while let Some(lengths) = reads.try_next().await? {
            lengths.into_iter().for_each(&mut each);
        }
        Ok(())
    }

    async fn lengths_of(&self, shard_idx: usize) -> Result<Vec<Length>> {
        let shard = &self.shards[shard_idx];
        let column = self.columns.length_column();
        let error = |reason: &str| Error::Schema {
            shard: shard.url().to_owned(),
            column: column.to_owned(),
            reason: reason.to_owned(),
        };
        let footer = self.footer(&shard.object, shard_idx).await?;
        let Footer::Parquet(footer) = &*footer else {
            return Err(error(
                "lengths are only read from Parquet shards\nhint: write the dataset again with `shards \
                 write`, or give the size of a step as `batch`",
            ));
        };
        let Some((length, rate)) = footer.columns().length_and_rate() else {
            return Err(error(
                "missing, and a step in seconds or tokens needs it\nhint: name the right one under \
                 [data.columns], or give the size of a step as `batch`",
            ));
        };
        let indices: Vec<usize> = std::iter::once(length).chain(rate).collect();
        let read = |again: bool| {
            let (footer, indices) = (&footer, &indices);
            async move {
                footer
                    .read_columns(&shard.object.uncached_if(again), indices)
                    .await
            }
        };
        let batches = retry_damaged(read).await?;
        let place = |at: usize| rate.filter(|&rate| rate < at).map_or(0, |_| 1);
        let column = |at: usize| {
            let mut values = Vec::with_capacity(shard.rows as usize);
            for batch in &batches {
                add_numbers(batch, at, &mut values).map_err(|reason| error(&reason))?;
            }
            Ok::<_, Error>(values)
        };
        let lengths = column(place(length))?;
        let rates = rate.map(|_| column(1 - place(length))).transpose()?;
        let rate = |row: usize| match &rates {
            None => Ok(None),
            Some(rates) => match u32::try_from(rates[row]) {
                Ok(rate) if rate > 0 => Ok(Some(rate)),
                _ => Err(error(&format!("row {row} has a rate of {}", rates[row]))),
            },
        };
        let each = lengths.iter().enumerate();
        each.map(|(row, &n)| {
            Ok(Length {
                n,
                rate_hz: rate(row)?,
            })
        })
        .collect()
    }
}

/// Appends a column of numbers of at least 0, without nulls.
fn add_numbers(batch: &RecordBatch, column: usize, values: &mut Vec<u64>) -> Result<(), String> {
    let numbers = cast(batch.column(column), &DataType::Int64).map_err(|e| e.to_string())?;
    let numbers = numbers.as_primitive::<Int64Type>();
    for at in 0..numbers.len() {
        let row = values.len();
        if numbers.is_null(at) {
            return Err(format!("row {row} has no length"));
        }
        let number = numbers.value(at);
        let number = u64::try_from(number);
        values
            .push(number.map_err(|_| format!("row {row} has a length of {}", numbers.value(at)))?);
    }
    Ok(())
}
