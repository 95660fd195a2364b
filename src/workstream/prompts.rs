//! The prompts of steps.
use serde_json::Value;

use super::assignment::Request;
use super::conduct::{Conductor, Known};
use super::step::{self, AgentStep, Common};
use crate::fix_loop::Why;
use crate::fix_loop::decision::NewStep;
use crate::job::step::step_id;
use crate::job::{Code, Reason, StepKind};

/// The prompt of a new step of an agent.
pub(super) fn of_step(
    conductor: &Conductor<'_, '_>,
    _known: &Known,
    _new: &NewStep,
) -> Result<String, Reason> {
    Ok(conductor.request.assignment.bundle.tasks.join("\n"))
}

/// The job file of the first step of a workstream that is not begun.
pub(super) fn first_step(request: &Request) -> Result<Value, Reason> {
    let facts = step::facts(1, StepKind::Edit, None, Why::Task);
    let id = step_id(&request.job_id, 1, StepKind::Edit)
        .map_err(|error| Reason::from_error(Code::Usage, &error))?;
    let prompt = request.assignment.bundle.tasks.join("\n");
    let common = Common { request, id: &id, facts: &facts };
    let files = request.assignment.bundle.writable();
    let tool = &request.assignment.bundle.tool;
    Ok(step::agent(common, &AgentStep { tool, prompt: &prompt, files, max_cost_usd: None }))
}
