//! Prints what the library traces as lines on standard error: warnings always, more with `-v`.

use std::fmt::{self, Write};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use super::global::Global;
use super::print;

/// One line for each event; spans are not used in this program.
struct Lines {
    most: Level,
}

/// Begins to print as much as was asked for.
pub(super) fn to_stderr(global: &Global) {
    let most = match global.verbose {
        0 if global.quiet => Level::ERROR,
        0 => Level::WARN,
        1 => Level::DEBUG,
        _ => Level::TRACE,
    };
    // A second call changes nothing.
    let _ = tracing::subscriber::set_global_default(Lines { most });
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.most && metadata.target().starts_with("engine")
    }
    fn event(&self, event: &Event<'_>) {
        let level = event.metadata().level().as_str().to_ascii_lowercase();
        let mut text = Text::default();
        event.record(&mut text);
        print::note(&format!("{level}: {}{}", text.message, text.fields));
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}
