//! A table of histories: what happens, and the steps and the verdict that must come of it.
//!
//! What happens is a word a step, in the order in which the loop asks for steps:
//! `>3` an agent leaves tree 3, and it is taken · `~3` the same, and the conductor is killed before it judges · `=` an agent
//! changes nothing · `#code` the judge refuses · `ok` it passes · `A` the check fails with that signature · `!code` it fails with
//! that code · `absent` it is not started · `slow` its time is over · `kill`, `lost`, `stop`, `full` it is interrupted ·
//! `open`, `queued` the conductor is killed as well · `park` it waits · `user` a person cancels it · `kill*10` ten times.
//! `|` a person resumes, `|9` after they have changed the tree to 9.
//!
//! What must come: the steps in order, `2` for one that is run again under its number, then `=>` and the verdict with its reason
//! and the steps that prove it.

use super::decision::{Next, Verdict};
use super::tests::{Event, World, plan, tool};
use super::*;

fn event(word: &str) -> Event {
    let ends = |outcome, code: &str| Event::Ends(outcome, Code::of_word(code));
    match word {
        "=" => Event::ChangesNothing,
        "ok" => Event::Passes,
        "kill" => Event::Breaks(Interruption::Killed),
        "lost" => Event::Breaks(Interruption::Lost),
        "stop" => Event::Breaks(Interruption::Stopped),
        "full" => Event::Breaks(Interruption::Shortage),
        "open" => Event::IsLeftOpen,
        "queued" => Event::IsLeftQueued,
        "park" => Event::Parks,
        "absent" => ends(Outcome::NotStarted, "tool_not_found"),
        "slow" => ends(Outcome::TimedOut, "timed_out"),
        "user" => ends(Outcome::Canceled, "canceled_by_user"),
        _ => match word.split_at(1) {
            (">", tree) => Event::Takes(tree.to_owned()),
            ("~", tree) => Event::EndsUnjudged(tree.to_owned()),
            ("#", code) => Event::Refused(Code::of_word(code)),
            ("!", code) => ends(Outcome::Failed, code),
            _ => Event::Fails(Some(word.to_owned())),
        },
    }
}

/// The words, `kill*10` written out.
fn words(script: &str) -> impl Iterator<Item = &str> {
    script.split_whitespace().flat_map(|word| {
        let (word, times) = word.split_once('*').unwrap_or((word, "1"));
        std::iter::repeat_n(word, times.parse().unwrap())
    })
}

fn told(next: &Next, plan: &Plan) -> String {
    match next {
        Next::Run(step) => {
            let check = step.check.map(|at| plan.checks[at].name.clone());
            let tool = step.tool.as_ref().map(|tool| tool.id.to_string()).filter(|tool| tool != "claude");
            let reduced = step.is_reduced.then(|| "reduced".to_owned());
            let extra = [check, tool, reduced].into_iter().flatten();
            std::iter::once(step.kind.as_str().to_owned()).chain(extra).collect::<Vec<_>>().join(":")
        }
        Next::Again(again) => again.n.to_string(),
        Next::Judge(n) => format!("judge:{n}"),
        Next::End(end) => {
            let verdict = match end.verdict {
                Verdict::Succeeded => "succeeded",
                Verdict::Failed => "failed",
                Verdict::Quarantined => "quarantined",
            };
            let code = end.reason.iter().map(|reason| reason.code.to_string());
            let evidence = end.evidence.iter().map(u32::to_string);
            let all = ["=>".to_owned(), verdict.to_owned()].into_iter().chain(code).chain(evidence);
            all.collect::<Vec<_>>().join(" ")
        }
    }
}

/// Plays a script to its end.
fn played(plan: Plan, script: &str) -> String {
    let mut world = World::new(plan);
    let mut happens = words(script).peekable();
    let mut trace = Vec::new();
    loop {
        let next = world.next();
        trace.push(told(&next, &world.plan));
        match &next {
            Next::Judge(n) => world.judge(*n),
            Next::End(_) => match happens.next() {
                None => return trace.join(" "),
                Some(word) => {
                    let tree = word.strip_prefix('|').unwrap_or_else(|| panic!("{word} after {trace:?}"));
                    world.resume((!tree.is_empty()).then(|| tree.to_owned()));
                }
            },
            Next::Run(_) | Next::Again(_) => {
                let word = happens.next().unwrap_or_else(|| panic!("{trace:?} asks for more"));
                let index = world.start(&next);
                world.play(index, event(word));
            }
        }
    }
}

#[track_caller]
fn table(change: impl Fn(&mut Plan), rows: &[(&str, &str, &str)]) {
    for (name, script, want) in rows {
        let mut changed = plan();
        change(&mut changed);
        assert_eq!(played(changed, script), *want, "{name}: {script}");
    }
}

#[test]
fn histories_that_end_well() {
    table(
        |_| {},
        &[
            ("right at once", ">1 ok ok", "edit static:lint runtime:unit => succeeded 2 3"),
            (
                "one fix, and all is proved anew",
                ">1 ok A >2 ok ok",
                "edit static:lint runtime:unit fix:unit static:lint runtime:unit => succeeded 5 6",
            ),
            (
                "slow but monotone",
                ">1 A >2 B >3 C >4 ok ok",
                "edit static:lint fix:lint static:lint fix:lint static:lint fix:lint static:lint runtime:unit \
                 => succeeded 8 9",
            ),
            (
                "the same failure twice is no proof yet",
                ">1 A >2 A >3 ok ok",
                "edit static:lint fix:lint static:lint fix:lint static:lint runtime:unit => succeeded 6 7",
            ),
            (
                "each part of the work has its own fixes",
                ">1 A >2 ok B >3 ok C >4 ok ok",
                "edit static:lint fix:lint static:lint runtime:unit fix:unit static:lint runtime:unit fix:unit \
                 static:lint runtime:unit => succeeded 10 11",
            ),
            (
                "a fix brings another failure, and that is mended too",
                ">1 ok A >2 B >3 ok ok",
                "edit static:lint runtime:unit fix:unit static:lint fix:lint static:lint runtime:unit \
                 => succeeded 7 8",
            ),
            (
                "a failure vanishes by itself",
                ">1 A = ok ok",
                "edit static:lint fix:lint static:lint runtime:unit => succeeded 4 5",
            ),
            (
                "a check that hangs is mended",
                ">1 slow >2 ok ok",
                "edit static:lint fix:lint static:lint runtime:unit => succeeded 4 5",
            ),
            (
                "a program that crashes itself is mended",
                ">1 !signal:11 >2 ok ok",
                "edit static:lint fix:lint static:lint runtime:unit => succeeded 4 5",
            ),
        ],
    );
}

#[test]
fn histories_that_a_breaker_ends() {
    table(
        |_| {},
        &[
            (
                "A-B-A in the files: no check has to run for it",
                ">1 A >2 B >1",
                "edit static:lint fix:lint static:lint fix:lint => failed oscillation 2 5",
            ),
            (
                "A-B-A in the failures",
                ">1 A >2 B >3 A",
                "edit static:lint fix:lint static:lint fix:lint static:lint => failed oscillation 2 4 6",
            ),
            (
                "A-B-C-A",
                ">1 A >2 B >3 C >4 A",
                "edit static:lint fix:lint static:lint fix:lint static:lint fix:lint static:lint \
                 => failed oscillation 2 4 6 8",
            ),
            (
                "stuck",
                ">1 A >2 A >3 A",
                "edit static:lint fix:lint static:lint fix:lint static:lint => failed no_progress 2 4 6",
            ),
            (
                "the fixes are used up",
                ">1 ok A >2 ok B >3 ok C",
                "edit static:lint runtime:unit fix:unit static:lint runtime:unit fix:unit static:lint runtime:unit \
                 => failed fix_limit 4 7 9",
            ),
            (
                "two checks push each other back to a tree that is known to fail",
                ">1 A >2 ok B >1",
                "edit static:lint fix:lint static:lint runtime:unit fix:unit => failed oscillation 2 6",
            ),
        ],
    );
}

#[test]
fn histories_that_a_breaker_with_other_limits_ends() {
    table(
        |plan| plan.limits.on_trip = limits::OnTrip::Quarantine,
        &[(
            "the ladder quarantines what trips",
            ">1 A >2 B >1",
            "edit static:lint fix:lint static:lint fix:lint => quarantined oscillation 2 5",
        )],
    );
    table(
        |plan| plan.limits.repeats = 3,
        &[(
            "a failure may come back once where that is allowed",
            ">1 A >2 B >3 A >4 ok ok",
            "edit static:lint fix:lint static:lint fix:lint static:lint fix:lint static:lint runtime:unit \
             => succeeded 8 9",
        )],
    );
    table(
        |plan| (plan.limits.window, plan.limits.same_failure) = (2, 9),
        &[(
            "what has left the window is forgotten",
            ">1 A >2 B >3 A >4 ok ok",
            "edit static:lint fix:lint static:lint fix:lint static:lint fix:lint static:lint runtime:unit \
             => succeeded 8 9",
        )],
    );
    table(
        |plan| plan.limits.fix_for = vec![Phase::Runtime],
        &[
            ("static failures are not mended", ">1 A", "edit static:lint => failed fix_disabled 2"),
            (
                "runtime failures are",
                ">1 ok A >2 ok ok",
                "edit static:lint runtime:unit fix:unit static:lint runtime:unit => succeeded 5 6",
            ),
        ],
    );
    table(
        |plan| plan.tool.takes_prompt = false,
        &[("a tool without a prompt cannot mend", ">1 A", "edit static:lint => failed fix_disabled 2")],
    );
    table(
        |plan| plan.limits.agent_attempts = Some(2),
        &[(
            "the steps of agents are used up",
            ">1 A >2 B",
            "edit static:lint fix:lint static:lint => failed attempt_limit 1 3",
        )],
    );
}

#[test]
fn histories_of_agents_that_fail() {
    table(
        |_| {},
        &[
            ("one more try", "!failed >1 ok ok", "edit edit static:lint runtime:unit => succeeded 3 4"),
            (
                "tries on another state of the files are not counted",
                ">1 A !failed >2 B !failed >3 ok ok",
                "edit static:lint fix:lint fix:lint static:lint fix:lint fix:lint static:lint runtime:unit \
                 => succeeded 8 9",
            ),
            ("a person has to help", "!failed !refused", "edit edit => failed refused 1 2"),
            (
                "the tree is as before, whatever the agent says",
                "~0 ~0",
                "edit judge:1 edit judge:2 => failed no_change 1 2",
            ),
            ("nothing was changed", "= =", "edit edit => failed no_change 1 2"),
            (
                "a fix changes nothing, twice",
                ">1 A = A = A",
                "edit static:lint fix:lint static:lint fix:lint static:lint => failed no_change 3 5",
            ),
            (
                "fewer files, once",
                "!context_overflow !context_overflow",
                "edit edit:reduced => failed context_overflow 1 2",
            ),
            (
                "fewer files stay fewer",
                "!context_overflow !protocol >1 ok ok",
                "edit edit:reduced edit:reduced static:lint runtime:unit => succeeded 4 5",
            ),
            ("without a key there is no second try", "!auth", "edit => failed auth 1"),
            ("the budget of a step", "!budget_exceeded", "edit => failed budget_exceeded 1"),
            (
                "a service that is waited for",
                ">1 A park >2 ok ok",
                "edit static:lint fix:lint 3 static:lint runtime:unit => succeeded 4 5",
            ),
            ("out of scope", "#scope_violation", "edit => quarantined scope_violation 1"),
            (
                "fewer tests than before",
                ">1 ok #tests_vanished",
                "edit static:lint runtime:unit => quarantined tests_vanished 3",
            ),
        ],
    );
}

#[test]
fn histories_with_other_tools() {
    let with_codex = |plan: &mut Plan| plan.fallback = vec![Tool { id: tool("codex"), takes_prompt: true }];
    table(
        with_codex,
        &[
            (
                "the other tool stays",
                "absent >1 A >2 ok ok",
                "edit edit:codex static:lint fix:lint:codex static:lint runtime:unit => succeeded 5 6",
            ),
            (
                "each tool tries again, then a person has to help",
                "!failed !failed !failed !stalled",
                "edit edit edit:codex edit:codex => failed stalled 1 2 3 4",
            ),
            (
                "a tool without a key is not asked for another step",
                "!auth >1 A !quota",
                "edit edit:codex static:lint fix:lint:codex => failed quota 4",
            ),
        ],
    );
    table(
        |plan| plan.fallback = vec![Tool { id: tool("sed"), takes_prompt: false }],
        &[
            (
                "a tool without a prompt may edit",
                "!auth >1 ok ok",
                "edit edit:sed static:lint runtime:unit => succeeded 3 4",
            ),
            ("and does not mend", ">1 A !quota", "edit static:lint fix:lint => failed quota 3"),
        ],
    );
    table(
        |plan| plan.no_change_allowed = true,
        &[("no change is needed", "= ok ok", "edit static:lint runtime:unit => succeeded 2 3")],
    );
}

#[test]
fn histories_with_kills() {
    table(
        |_| {},
        &[
            ("an edit that is lost", "lost >1 ok ok", "edit 1 static:lint runtime:unit => succeeded 2 3"),
            (
                "everything is killed at every turn",
                "queued open lost >1 open ok kill full ok",
                "edit 1 1 1 static:lint 2 runtime:unit 3 3 => succeeded 2 3",
            ),
            (
                "killed before the change was judged",
                "~1 ok ok",
                "edit judge:1 static:lint runtime:unit => succeeded 2 3",
            ),
            ("an agent that is killed again and again", "kill*3", "edit 1 1 => failed signal:9 1"),
            (
                "a check that is killed again and again",
                ">1 kill*10",
                "edit static:lint 2 2 2 2 2 2 2 2 2 => failed check_killed 2",
            ),
            (
                "a stop is no failure, however often",
                ">1 stop*12 ok ok",
                "edit static:lint 2 2 2 2 2 2 2 2 2 2 2 2 runtime:unit => succeeded 2 3",
            ),
            (
                "a full disk has more patience",
                "full*9 >1 ok ok",
                "edit 1 1 1 1 1 1 1 1 1 static:lint runtime:unit => succeeded 2 3",
            ),
            ("and not without end", "full*10", "edit 1 1 1 1 1 1 1 1 1 => failed disk_full 1"),
            ("a check that is not there", ">1 absent", "edit static:lint => failed tool_missing 2"),
            ("a person cancels a step", ">1 user", "edit static:lint => failed step_canceled 2"),
        ],
    );
    table(
        |plan| plan.quarantine_on_crash = true,
        &[
            ("what crashed is not repeated", "lost", "edit => quarantined crash 1"),
            (
                "a check is, and a person may resume an edit",
                "lost | >1 lost ok ok",
                "edit => quarantined crash 1 1 static:lint 2 runtime:unit => succeeded 2 3",
            ),
        ],
    );
    table(
        |plan| plan.has_setup = true,
        &[
            (
                "the worktree is prepared first",
                "kill ok >1 ok ok",
                "setup 1 edit static:lint runtime:unit => succeeded 3 4",
            ),
            (
                "the worktree cannot be prepared",
                "A | ok >1 ok ok",
                "setup => failed setup_failed 1 setup edit static:lint runtime:unit => succeeded 4 5",
            ),
        ],
    );
}

#[test]
fn histories_of_more_than_one_life() {
    table(
        |_| {},
        &[
            (
                "all counters begin anew, and what failed runs again before it is mended",
                ">1 A >2 A >3 A | A >4 ok ok",
                "edit static:lint fix:lint static:lint fix:lint static:lint => failed no_progress 2 4 6 \
                 static:lint fix:lint static:lint runtime:unit => succeeded 9 10",
            ),
            (
                "a tree of a former life is no oscillation",
                ">1 A >2 B >1 | A >2 ok ok",
                "edit static:lint fix:lint static:lint fix:lint => failed oscillation 2 5 \
                 static:lint fix:lint static:lint runtime:unit => succeeded 8 9",
            ),
            (
                "a person mends",
                ">1 A >2 A >3 A |9 ok ok",
                "edit static:lint fix:lint static:lint fix:lint static:lint => failed no_progress 2 4 6 \
                 static:lint runtime:unit => succeeded 7 8",
            ),
            (
                "a person stands in for an edit that was refused",
                "#scope_violation |9 ok ok",
                "edit => quarantined scope_violation 1 static:lint runtime:unit => succeeded 2 3",
            ),
            (
                "a person does not stand in for an edit that failed",
                "!auth |9 >1 ok ok",
                "edit => failed auth 1 edit static:lint runtime:unit => succeeded 3 4",
            ),
            (
                "a scope was widened",
                "#scope_violation | >1 ok ok",
                "edit => quarantined scope_violation 1 edit static:lint runtime:unit => succeeded 3 4",
            ),
            (
                "what passed in a former life on the same tree holds",
                ">1 ok absent | ok",
                "edit static:lint runtime:unit => failed tool_missing 3 runtime:unit => succeeded 2 4",
            ),
            (
                "a pass that was refused is none",
                ">1 #tests_vanished | ok ok",
                "edit static:lint => quarantined tests_vanished 2 static:lint runtime:unit => succeeded 3 4",
            ),
            (
                "what a person canceled runs again under its number",
                ">1 A user | >2 ok ok",
                "edit static:lint fix:lint => failed step_canceled 3 3 static:lint runtime:unit => succeeded 4 5",
            ),
            (
                "an agent that was killed too often gets its chances anew",
                "kill*3 | kill >1 ok ok",
                "edit 1 1 => failed signal:9 1 1 1 static:lint runtime:unit => succeeded 2 3",
            ),
            (
                "a check that was killed too often gets its chances anew",
                ">1 kill*10 | kill ok ok",
                "edit static:lint 2 2 2 2 2 2 2 2 2 => failed check_killed 2 2 2 runtime:unit => succeeded 2 3",
            ),
        ],
    );
}

#[test]
fn histories_without_an_edit_or_without_checks() {
    table(
        |plan| plan.has_tasks = false,
        &[
            ("the checks alone", "ok ok", "static:lint runtime:unit => succeeded 1 2"),
            (
                "a fix is possible all the same",
                "A >1 ok ok",
                "static:lint fix:lint static:lint runtime:unit => succeeded 3 4",
            ),
        ],
    );
    table(|plan| plan.checks.clear(), &[("an edit alone", ">1", "edit => succeeded")]);
}

#[test]
fn a_step_whose_check_was_changed_meanwhile_is_left_as_it_is() {
    let mut world = World::new(plan());
    for event in [Event::Takes("1".to_owned()), Event::Breaks(Interruption::Stopped)] {
        let index = world.start(&world.next());
        world.play(index, event);
    }
    assert_eq!(told(&world.next(), &world.plan), "2");
    world.resume(None);
    world.plan.checks[0].digest = "of another command".to_owned();
    assert_eq!(told(&world.next(), &world.plan), "static:lint");
    assert!(matches!(world.next(), Next::Run(step) if step.n == 3));
}
