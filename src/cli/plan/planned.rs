//! A plan with the bundles and settings behind it.

use crate::bundle::settings::Resolved;
use crate::bundle::{Finding, Paths, Plan, ReadBundle};
use crate::workstream::estimate::{self, Durations, Estimate};

/// A plan with the bundles and settings behind it.
pub(super) struct Planned<'a> {
    pub(super) bundles: &'a [ReadBundle],
    pub(super) plan: Plan,
    pub(super) settings: Resolved,
    pub(super) max_workers: usize,
    pub(super) estimate: Option<Estimate>,
}

impl<'a> Planned<'a> {
    pub(super) fn of(bundles: &'a [ReadBundle], settings: Resolved) -> Self {
        let max_workers = usize::try_from(settings.settings.max_workers).unwrap_or(usize::MAX);
        let plan = Plan::of(&Paths::of(bundles), max_workers);
        Self { bundles, plan, settings, max_workers, estimate: None }
    }

    pub(super) fn with_estimate(self, durations: &Durations) -> Self {
        let took = |bundle: usize| durations.of_bundle(&self.bundles.get(bundle)?.bundle);
        let estimate = estimate::estimate(&self.plan.order, self.max_workers, took);
        Self { estimate, ..self }
    }

    /// The warnings of files, settings and plan.
    pub(super) fn warnings(&self, of_files: &[Finding]) -> impl Iterator<Item = String> {
        let of_settings = self.settings.warnings.iter().map(ToString::to_string);
        of_files.iter().map(Finding::line).chain(of_settings).chain(self.plan.warnings.iter().cloned())
    }

    /// The id of a bundle.
    pub(super) fn id(&self, bundle: usize) -> &'a str {
        self.bundles.get(bundle).map_or("", |read| read.bundle.id.as_str())
    }

    /// The id of the workstream at a place of the order.
    pub(super) fn id_at(&self, place: usize) -> &'a str {
        self.plan.order.places.get(place).map_or("", |place| self.id(place.bundle))
    }
}
