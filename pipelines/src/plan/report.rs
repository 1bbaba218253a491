//! What a plan costs and how well it shuffles, known before the run.
