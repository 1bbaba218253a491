//! The output of `shards write`: progress, reports, and the commands to run next.

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use understudy_pipelines::quarantine::QUARANTINE_NAME;
use understudy_pipelines::write::{End, Progress, WriteReport};

/// Interval of progress lines if there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Progress as a bar on a terminal, or as a line every 10 s elsewhere.
pub(super) struct ProgressDisplay {
    bar: ProgressBar,
    last_line: Instant,
}

impl ProgressDisplay {
    pub(super) fn new() -> Self {
        let style = "{spinner} {prefix} {bar:30} {pos}/{len} samples, {per_sec}, {eta} left {msg}";
        let style =
            ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::no_length()
            .with_style(style)
            .with_prefix("reading file names");
        Self {
            bar,
            last_line: Instant::now(),
        }
    }

    /// Removes the bar.
    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    pub(super) fn show(&mut self, progress: Progress) {
        let bad = match progress.quarantined {
            0 => String::new(),
            n => format!(", {n} bad"),
        };
        if !self.bar.is_hidden() {
            if self.bar.length() != Some(progress.total) {
                self.bar.reset();
                // The rate and the time left of a resumed run count from its start.
                self.bar.set_length(progress.total);
                self.bar.set_position(progress.done);
                self.bar.reset_eta();
            }
            self.bar.set_prefix(progress.dataset);
            self.bar.set_message(bad);
            self.bar.set_position(progress.done);
        } else if self.last_line.elapsed() >= LINE_EVERY {
            self.last_line = Instant::now();
            let Progress {
                dataset,
                done,
                total,
                bytes,
                ..
            } = progress;
            say(&format!(
                "{dataset}: {done}/{total} samples, {} in shards{bad}",
                HumanBytes(bytes)
            ));
        }
    }
}

/// Prints the report on one dataset.
pub(super) fn print_report(report: &WriteReport) {
    let dataset = &report.dataset;
    let size = HumanBytes(report.bytes);
    let classes = report
        .classes
        .as_ref()
        .map_or(String::new(), |c| format!(", {} classes", c.len()));
    let state = match report.end {
        End::Written => format!("written in {:.1} s", report.took.as_secs_f64()),
        End::AlreadyThere => "was complete already".to_owned(),
        End::Interrupted => "not finished".to_owned(),
    };
    say(&format!(
        "{dataset}: {} rows{classes}, {size} in {} shards, {state}",
        report.rows, report.shards
    ));
    if report.resumed_from > 0 {
        say(&format!(
            "  resumed after {} samples of an earlier run",
            report.resumed_from
        ));
    }
    if report.quarantined > 0 {
        say(&format!(
            "  {} bad samples skipped: see {dataset}/{QUARANTINE_NAME}",
            report.quarantined
        ));
    }
    if report.ignored > 0 {
        say(&format!(
            "  {} files ignored: hidden, of another kind, notes such as README, or next to the \
             folders of samples",
            report.ignored
        ));
    }
}

/// Explains that folders given one by one, as by `images/*`, are not classes.
pub(super) fn print_bare(sources: &[PathBuf]) {
    let parent = sources[0].parent().filter(|parent| {
        let is_in_it = |source: &PathBuf| source.parent() == Some(*parent);
        sources.iter().all(is_in_it)
    });
    let parent = match parent {
        Some(parent) if parent.as_os_str().is_empty() => ".".to_owned(),
        Some(parent) => quoted(&parent.display().to_string()),
        None => "their common folder".to_owned(),
    };
    say(&format!(
        "  no labels: the sources are folders of only files
  hint: give {parent} as the source, and each \
         folder becomes a class"
    ));
}

/// Prints the commands to run next.
pub(super) fn print_next(reports: &[WriteReport], to: &str) {
    let named = |name: &str| {
        reports
            .iter()
            .find(|r| r.dataset.rsplit('/').next() == Some(name))
            .map(|r| r.dataset.clone())
    };
    say("next:");
    for report in reports {
        say(&format!("  shards verify {}", quoted(&report.dataset)));
    }
    let train = quoted(&named("train").unwrap_or_else(|| to.to_owned()));
    let val = named("val").map_or(String::new(), |val| {
        format!(" --set data.val={}", quoted(&val))
    });
    say(&format!(
        "  understudy train CONFIG --set data.train={train}{val}"
    ));
}

/// Quotes a name for a shell, if needed.
fn quoted(name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if name.chars().all(is_plain) {
        name.to_owned()
    } else {
        format!("'{}'", name.replace('\'', r"'\''"))
    }
}

/// Prints a line. A closed pipe is not an error: its reader needs no more lines.
pub(super) fn say(line: &str) {
    let _closed = writeln!(std::io::stdout(), "{line}");
}
