//! The integration tests, one binary. Each file is named after what it is afraid of.
#![expect(clippy::disallowed_methods, reason = "a test plays the user, the editor and the crash")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what a test needs and does not find fails it"
)]

mod adapters;
mod after;
mod agent_streams;
mod agents;
mod agents_budget;
mod agents_hostile;
mod agents_parking;
mod agents_refused;
mod bundles;
mod checkout;
mod circles;
mod cli;
mod control;
mod crash;
mod disk;
mod doctor;
mod documents;
mod door;
mod environment;
mod evidence;
mod fake_agent;
mod full_disk;
mod generated;
mod job_contract;
mod keep;
mod layers;
mod matrix;
mod model;
mod order;
mod output;
mod own_agents;
mod parent;
mod plan;
mod power_loss;
mod process;
mod readers;
mod reading;
mod recipes;
mod records;
mod roots;
mod run_job;
mod runs_clean;
mod runs_merge;
mod runs_report;
mod secrets;
#[path = "../helper/server/mod.rs"]
mod server;
mod snapshots;
mod stress;
mod submit;
mod support;
mod usage;
mod waiting;
mod worker;
mod workstream_bench;
mod workstream_crash;
mod workstream_kill;
mod workstream_power_loss;
mod workstreams;
mod workstreams_by_hand;
mod workstreams_crashed;
mod workstreams_gate;
mod workstreams_git;
mod workstreams_hostile;
mod workstreams_kept;
mod workstreams_many;
mod workstreams_many_stopped;
mod workstreams_polled;
mod workstreams_refused;
mod workstreams_settings;
mod workstreams_stopped;
mod workstreams_told;
