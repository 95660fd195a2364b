//! The usage of a run, from its stream and its session file. Pure.
//!
//! Both report too little rather than too much: a stream omits failed runs, a session file omits what it does not know. So
//! the larger one counts. Figures that grow over a session are taken since the run began.

use super::seen::{SessionFacts, StreamFacts, StreamUsage};
use crate::cost::usage::{ModelUsage, Tokens, UsageSource};

/// What a run used.
#[derive(Debug, Clone, PartialEq)]
pub struct Used {
    /// By model; one entry without numbers if nothing is known.
    pub models: Vec<ModelUsage>,
    /// Where the numbers come from.
    pub source: UsageSource,
    /// How often the model was asked.
    pub turns: Option<u64>,
}

/// The usage of the session when the run began.
#[derive(Debug, Clone, Copy)]
pub enum SessionBefore<'a> {
    /// The run began the session.
    New,
    /// The run continued a session of which this was known.
    Known(&'a SessionFacts),
    /// The run continued a session of which nothing was known.
    Unknown,
}

/// Computes the usage of a run.
#[must_use]
pub fn used(seen: &StreamFacts, session: &SessionFacts, before: SessionBefore<'_>) -> Used {
    let model = seen.model.clone().or_else(|| session.model.clone());
    let nothing = Used {
        models: vec![ModelUsage { model: model.clone(), tokens: Tokens::default(), cost_usd: None }],
        source: UsageSource::None,
        turns: seen.turns,
    };
    if seen.usage_is_wrong {
        return Used { turns: None, ..nothing };
    }
    let by_stream = stream_models(seen, model.as_ref(), before);
    let by_session = session_models(session, model.as_ref(), before);
    let turns_before = match before {
        SessionBefore::Known(before) => before.turns,
        SessionBefore::New | SessionBefore::Unknown => 0,
    };
    let turns = Some(session.turns.saturating_sub(turns_before)).filter(|turns| *turns > 0);
    let total = |models: &[ModelUsage]| models.iter().filter_map(|usage| usage.tokens.total()).sum::<u64>();
    match (total(&by_stream), total(&by_session)) {
        // A tool may know what it costs and not how many tokens that were.
        (0, 0) if by_stream.iter().any(|usage| usage.cost_usd.is_some()) => {
            Used { models: by_stream, source: UsageSource::Stream, turns: seen.turns }
        }
        (0, 0) => nothing,
        (stream, session) if stream >= session => {
            Used { models: by_stream, source: UsageSource::Stream, turns: turns.or(seen.turns) }
        }
        _ => Used { models: by_session, source: UsageSource::SessionFile, turns: turns.or(seen.turns) },
    }
}

fn stream_models(seen: &StreamFacts, model: Option<&String>, before: SessionBefore<'_>) -> Vec<ModelUsage> {
    match &seen.usage {
        StreamUsage::Untold => Vec::new(),
        StreamUsage::OfThisRun(models) => models.clone(),
        StreamUsage::OfTheSession(tokens) => {
            let then = match before {
                SessionBefore::New => Tokens::default(),
                SessionBefore::Known(before) => sum(before),
                SessionBefore::Unknown => return Vec::new(),
            };
            vec![ModelUsage { model: model.cloned(), tokens: tokens.since(then), cost_usd: None }]
        }
    }
}

fn session_models(
    session: &SessionFacts,
    model: Option<&String>,
    before: SessionBefore<'_>,
) -> Vec<ModelUsage> {
    let then = match before {
        SessionBefore::New => None,
        SessionBefore::Known(before) => Some(before),
        SessionBefore::Unknown => return Vec::new(),
    };
    let used = session.tokens.iter().map(|(name, tokens)| {
        let then = then.and_then(|before| before.tokens.get(name)).copied().unwrap_or_default();
        ModelUsage {
            model: name.clone().or_else(|| model.cloned()),
            tokens: tokens.since(then),
            cost_usd: session.costs.get(name).copied(),
        }
    });
    used.filter(|usage| usage.tokens.total().unwrap_or(0) > 0).collect()
}

fn sum(session: &SessionFacts) -> Tokens {
    session.tokens.values().fold(Tokens::default(), |sum, tokens| sum.plus(*tokens))
}
