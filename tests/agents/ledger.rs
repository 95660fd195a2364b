//! What the ledger of a root holds, beside what the server served.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::bench::Bench;
use crate::server::{Api, Served};

/// All tokens of the prompts, those of them from a cache, and those of the answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    pub input: u64,
    pub cached: u64,
    pub output: u64,
}

impl std::fmt::Display for Sum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.cached {
            0 => write!(f, "{}/{}", self.input, self.output),
            cached => write!(f, "{}/{} (c {cached})", self.input, self.output),
        }
    }
}

/// What whole answers cost.
pub fn served(requests: &[Served]) -> Sum {
    let mut sum = Sum::default();
    for request in requests {
        let Some(tokens) = request.tokens else { continue };
        // The Messages API counts the cached ones apart.
        let apart = if request.api == Api::Messages { tokens.cached } else { 0 };
        sum.input += tokens.input + apart;
        sum.cached += tokens.cached;
        sum.output += tokens.output;
    }
    sum
}

/// What the ledger says of the job and of its steps: of the lines of one key the last counts.
pub fn lines(bench: &Bench) -> Vec<Value> {
    let steps = format!("{}.", bench.job_id);
    let is_ours = |job: &str| job == bench.job_id || job.starts_with(&steps);
    let text = std::fs::read_to_string(bench.root("state/usage.jsonl")).unwrap_or_default();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let by_key: BTreeMap<String, Value> = lines
        .filter(|line| line["job_id"].as_str().is_some_and(is_ours))
        .map(|line| {
            let key = ["job_id", "attempt", "started_at", "model"].map(|key| line[key].to_string()).join(" ");
            (key, line)
        })
        .collect();
    by_key.into_values().collect()
}

/// The sum of the ledger, none where no attempt's tokens are known, and how many attempts it has.
pub fn told(bench: &Bench) -> (Option<Sum>, bool, usize) {
    let lines = lines(bench);
    let known: Vec<&Value> = lines.iter().filter(|line| line["tokens_source"] != "none").collect();
    let sum = |key: &str| known.iter().map(|line| line[key].as_u64().unwrap_or(0)).sum::<u64>();
    let told =
        Sum { input: sum("input_tokens"), cached: sum("cached_input_tokens"), output: sum("output_tokens") };
    let tells_cached = known.iter().any(|line| line["cached_input_tokens"].is_u64());
    let mut attempts: Vec<u64> = lines.iter().filter_map(|line| line["attempt"].as_u64()).collect();
    attempts.dedup();
    ((!known.is_empty()).then_some(told), tells_cached, attempts.len())
}
