//! A world that plays agents, checks and crashes, and what must hold of every history in it.

use proptest::prelude::*;

use super::decision::{Again, End, How, NewStep, Next, Verdict};
use super::limits::{CheckKind, Fixes, Limits, OnTrip, Phase, Recovery};
use super::next::{flaky, next, used_fixes};
use super::*;

/// What becomes of a step.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Event {
    /// The agent leaves this tree, and it is taken.
    Takes(String),
    /// The agent ends well, and the conductor is killed before it judges: this tree is left.
    EndsUnjudged(String),
    /// The agent ends well and changes nothing.
    ChangesNothing,
    /// What the agent or the check left is refused.
    Refused(Code),
    /// The check passes.
    Passes,
    /// The check fails with this signature, or with none.
    Fails(Option<String>),
    /// It comes to another end.
    Ends(Outcome, Code),
    /// It is interrupted.
    Breaks(Interruption),
    /// It waits.
    Parks,
    /// The conductor and it are killed: its attempt is open.
    IsLeftOpen,
    /// The conductor is killed before it starts.
    IsLeftQueued,
}

pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) steps: Vec<Step>,
    pub(super) present: Present,
    /// What the last agent left, before it is judged.
    left: Option<String>,
}

pub(super) fn tool(name: &str) -> ToolId {
    ToolId::new(name).unwrap()
}

fn check(name: &str, kind: CheckKind) -> Check {
    Check { name: name.to_owned(), kind, digest: format!("digest of {name}") }
}

pub(super) fn plan() -> Plan {
    Plan {
        has_setup: false,
        has_tasks: true,
        no_change_allowed: false,
        tool: Tool { id: tool("claude"), takes_prompt: true },
        fallback: Vec::new(),
        checks: vec![check("lint", CheckKind::Static), check("unit", CheckKind::Runtime)],
        limits: Limits::default(),
        recovery: Recovery::default(),
        quarantine_on_crash: false,
    }
}

fn at(n: u32) -> Timestamp {
    Timestamp::from_millis(i64::from(n) * 1000)
}

impl World {
    pub(super) fn new(plan: Plan) -> Self {
        let present = Present {
            life: 1,
            tree: "0".to_owned(),
            is_changed: false,
            has_setup_mark: false,
            hand: None,
            taken_over: None,
            last_n: 0,
            bundle_rest_usd: None,
            run_rest_usd: None,
        };
        Self { plan, steps: Vec::new(), present, left: None }
    }

    pub(super) fn next(&self) -> Next {
        let found = next(&self.plan, &self.steps, &self.present);
        assert_eq!(found, next(&self.plan, &self.steps, &self.present), "the same history, the same answer");
        found
    }

    /// Starts the step that `next` asked for; its index.
    pub(super) fn start(&mut self, next: &Next) -> usize {
        match next {
            Next::Run(step) => {
                self.steps.push(self.made(step));
                self.steps.len() - 1
            }
            Next::Again(Again { n, how, .. }) => {
                let index = self.steps.iter().position(|step| step.n == *n).expect("it is there");
                let step = &mut self.steps[index];
                if *how == How::FromCheckpoint {
                    step.tree = self.present.tree.clone();
                }
                step.life = self.present.life;
                index
            }
            other => panic!("{other:?} starts nothing"),
        }
    }

    fn made(&self, step: &NewStep) -> Step {
        let check = step.check.map(|at| &self.plan.checks[at]);
        Step {
            n: step.n,
            kind: step.kind,
            check: check.map(|check| check.name.clone()),
            check_digest: check.map(|check| check.digest.clone()),
            life: self.present.life,
            iteration: step.iteration,
            tool: step.tool.as_ref().map_or_else(|| tool("shell"), |tool| tool.id.clone()),
            tree: self.present.tree.clone(),
            why: step.why,
            state: StepState::Queued,
            kills: 0,
            signature: None,
            taken: None,
            tree_after: None,
            refused: None,
        }
    }

    /// Lets a started step come to this.
    pub(super) fn play(&mut self, index: usize, event: Event) {
        let n = self.steps[index].n;
        let ended = |outcome, code: Option<Code>| {
            StepState::of_end(outcome, code.map(|code| Reason::new(code, format!("step {n}"))), at(n))
        };
        let step = &mut self.steps[index];
        step.signature = None;
        step.kills *= u32::from(matches!(event, Event::Breaks(_) | Event::Parks | Event::IsLeftQueued));
        match event {
            Event::Takes(tree) => {
                step.state = ended(Outcome::Succeeded, Some(Code::Ok));
                self.take(index, tree);
            }
            Event::EndsUnjudged(tree) => {
                step.state = ended(Outcome::Succeeded, Some(Code::Ok));
                self.left = Some(tree);
            }
            Event::ChangesNothing => step.state = ended(Outcome::Failed, Some(Code::NoChange)),
            Event::Refused(code) => {
                step.state = ended(Outcome::Succeeded, None);
                step.refused = Some(Reason::new(code, "why"));
            }
            Event::Passes => {
                step.state = ended(Outcome::Succeeded, None);
                self.present.has_setup_mark |= step.kind == StepKind::Setup;
            }
            Event::Fails(signature) => {
                step.state = ended(Outcome::Failed, Some(Code::ExitCode));
                step.signature = signature;
            }
            Event::Ends(outcome, code) => step.state = ended(outcome, Some(code)),
            Event::Breaks(how) => {
                let (outcome, code) = match how {
                    Interruption::Lost => (Outcome::Lost, Code::Crash),
                    Interruption::Killed => (Outcome::Killed, Code::Signal(9)),
                    Interruption::Stopped => (Outcome::Canceled, Code::Signal(15)),
                    Interruption::Shortage => (Outcome::NotStarted, Code::DiskFull),
                };
                step.state = ended(outcome, Some(code));
                step.kills += u32::from(how != Interruption::Stopped);
            }
            Event::Parks => step.state = StepState::Parked(Some(at(n + 1))),
            Event::IsLeftOpen => step.state = StepState::Open,
            Event::IsLeftQueued => step.state = StepState::Queued,
        }
    }

    /// Judges a step that ended well: the tree that it left is taken, or is the one that it ran on.
    pub(super) fn take(&mut self, index: usize, tree: String) {
        let step = &mut self.steps[index];
        step.tree_after = Some(tree.clone());
        if tree != self.present.tree {
            step.taken = Some(format!("commit {}", step.n));
            (self.present.tree, self.present.is_changed) = (tree, true);
        }
    }

    pub(super) fn judge(&mut self, n: u32) {
        let index = self.steps.iter().position(|step| step.n == n).expect("it is there");
        let tree = self.left.take().expect("something is left to judge");
        self.take(index, tree);
    }

    /// A person resumes, perhaps with changes of their own.
    pub(super) fn resume(&mut self, hand: Option<String>) {
        self.present.life += 1;
        self.left = None;
        // Only what the present life saw is counted.
        self.steps.iter_mut().for_each(|step| step.kills = 0);
        if let Some(tree) = hand {
            self.present.tree = tree;
            self.present.hand = self.steps.last().map(|step| step.n);
        }
    }
}

/// The choices of a random world, one after the other; then always the same.
struct Choices(std::vec::IntoIter<u8>);

impl Choices {
    fn of(&mut self, count: u8) -> u8 {
        self.0.next().unwrap_or(0) % count
    }

    fn signature(&mut self) -> Option<String> {
        ["A", "B", "C", "D"].get(usize::from(self.of(5))).map(|&name| name.to_owned())
    }

    fn breaks(&mut self) -> Event {
        match self.of(6) {
            0 => Event::Breaks(Interruption::Lost),
            1 => Event::Breaks(Interruption::Killed),
            2 => Event::Breaks(Interruption::Shortage),
            3 => Event::Breaks(Interruption::Stopped),
            4 => Event::IsLeftOpen,
            _ => Event::IsLeftQueued,
        }
    }

    fn of_agent(&mut self) -> Event {
        let tree = self.of(12).to_string();
        match self.of(16) {
            0..=6 => Event::Takes(tree),
            7 => Event::EndsUnjudged(tree),
            8 => Event::ChangesNothing,
            9 => Event::Refused(Code::Other("gate_tampered".into())),
            10 => Event::Ends(Outcome::Failed, Code::ContextOverflow),
            11 => Event::Ends(Outcome::Failed, Code::Auth),
            12 => Event::Ends(Outcome::TimedOut, Code::TimedOut),
            13 => Event::Ends(Outcome::NotStarted, Code::ToolNotFound),
            14 => Event::Parks,
            _ => self.breaks(),
        }
    }

    fn of_check(&mut self) -> Event {
        match self.of(13) {
            0..=4 => Event::Passes,
            12 => Event::Refused(Code::Other("tests_vanished".into())),
            5..=8 => Event::Fails(self.signature()),
            9 => Event::Ends(Outcome::TimedOut, Code::TimedOut),
            10 => Event::Ends(Outcome::NotStarted, Code::ToolNotFound),
            _ => self.breaks(),
        }
    }
}

fn any_plan() -> impl Strategy<Value = Plan> {
    let numbers = (0u32..4, 0u32..4, 1u32..7, 0u32..4, 0u32..4, 0u32..3);
    let flags = prop::array::uniform6(any::<bool>());
    let attempts = prop::option::of(0u32..8);
    (numbers, flags, attempts, 0usize..4).prop_map(|(numbers, flags, agent_attempts, checks)| {
        let (of_static, of_runtime, window, repeats, same_failure, retries) = numbers;
        let [has_setup, has_tasks, no_change_allowed, quarantines, with_fallback, quarantine_on_crash] =
            flags;
        let mut all = vec![
            check("lint", CheckKind::Static),
            check("unit", CheckKind::Runtime),
            check("say", CheckKind::Accept),
        ];
        all.truncate(checks);
        let fallback =
            [Tool { id: tool("codex"), takes_prompt: true }, Tool { id: tool("sed"), takes_prompt: false }];
        let on_trip = if quarantines { OnTrip::Quarantine } else { OnTrip::Fail };
        let fixes = Fixes { of_static, of_runtime };
        Plan {
            has_setup,
            has_tasks,
            no_change_allowed,
            fallback: fallback.into_iter().filter(|_| with_fallback).collect(),
            checks: all,
            limits: Limits {
                fixes,
                window,
                repeats,
                same_failure,
                agent_attempts,
                on_trip,
                ..Limits::default()
            },
            recovery: Recovery { retries, ..Recovery::default() },
            quarantine_on_crash,
            ..plan()
        }
    })
}

/// What a fix must not follow, said once more and in another way than the breakers say it.
fn no_fix_is_senseless(world: &World, fix: &NewStep) {
    let life = || world.steps.iter().filter(|step| step.life == world.present.life);
    let check = &world.plan.checks[fix.check.unwrap()];
    let failed: Vec<&Step> = life().filter(|step| step.is_failure_of(check)).collect();
    let used = life().filter(|step| step.kind == StepKind::Fix && step.is_used_fix());
    let of_phase = used.filter(|step| {
        let mended = world.plan.checks.iter().find(|check| step.is_of(check)).unwrap();
        mended.kind.phase() == check.kind.phase()
    });
    let count = u32::try_from(of_phase.count()).unwrap();
    assert!(count < world.plan.limits.fixes.of(check.kind.phase()), "more fixes than allowed");
    assert_eq!(fix.iteration, count + 1);
    let last_taken = life().rfind(|step| step.kind == StepKind::Fix && step.taken.is_some());
    if let Some(last) = last_taken {
        let seen_before = failed.iter().any(|step| step.n < last.n && step.tree == world.present.tree);
        let runs = |step: &&Step| step.is_run_of(check) && step.tree == world.present.tree && step.n < last.n;
        let passed_since = life().rfind(runs).is_some_and(|step| step.has_outcome(Outcome::Succeeded));
        assert!(!seen_before || passed_since, "a fix on a tree that is known to fail");
    }
    let row = failed
        .iter()
        .rev()
        .take_while(|step| step.signature.is_some() && step.signature == failed.last().unwrap().signature);
    let trees: std::collections::BTreeSet<&str> = row.map(|step| &*step.tree).collect();
    let passed_between = life().any(|step| step.is_run_of(check) && step.has_outcome(Outcome::Succeeded));
    let stuck = trees.len() >= world.plan.limits.same_failure.max(2) as usize;
    assert!(!stuck || passed_between, "a fix where the failure stays");
}

fn success_is_proved(world: &World) {
    for check in &world.plan.checks {
        let proof = world.steps.iter().rfind(|step| {
            step.check_digest.as_ref() == Some(&check.digest)
                && step.tree == world.present.tree
                && step.kind != StepKind::Fix
                && step.refused.is_none()
        });
        assert!(
            proof.is_some_and(|step| step.has_outcome(Outcome::Succeeded)),
            "{} is not proved",
            check.name
        );
    }
    let edited = world.steps.iter().any(|step| step.taken.is_some() || step.changed_nothing());
    assert!(edited || !world.plan.has_tasks || world.present.hand.is_some(), "success without an edit");
}

/// One life: its end, after fewer answers than a life can have.
fn live(world: &mut World, choices: &mut Choices) -> End {
    let tries = 12 * (world.plan.recovery.retries as usize + 4);
    for _ in 0..tries * 40 {
        let interrupted = world.steps.iter().find(|step| step.ended().is_none()).map(|step| step.n);
        let answer = world.next();
        match &answer {
            Next::End(end) => return end.clone(),
            Next::Judge(n) => {
                world.judge(*n);
                continue;
            }
            Next::Again(again) => assert!(
                world.steps.iter().any(|step| step.n == again.n && step.taken.is_none()),
                "what was taken is not run again"
            ),
            Next::Run(step) => {
                assert_eq!(step.n, world.steps.last().map_or(0, |step| step.n) + 1, "no number twice");
                let given_up =
                    |n: u32| world.steps.iter().any(|step| step.n == n && recovery::is_given_up(step));
                assert!(
                    step.kind == StepKind::Setup || interrupted.is_none_or(given_up),
                    "{interrupted:?} is to be run again, not {step:?}"
                );
                let taken = |step: &Step| step.kind == StepKind::Edit && step.taken.is_some();
                assert!(
                    step.kind != StepKind::Edit || !world.steps.iter().any(taken),
                    "an edit that was taken"
                );
                if step.kind == StepKind::Fix {
                    no_fix_is_senseless(world, step);
                }
            }
        }
        let index = world.start(&answer);
        let is_agent = world.steps[index].kind.is_agent();
        let event = if is_agent { choices.of_agent() } else { choices.of_check() };
        world.play(index, event);
    }
    panic!("a life without an end: {:#?}", world.steps);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn every_history_ends_and_keeps_the_rules(
        plan in any_plan(),
        choices in prop::collection::vec(any::<u8>(), 0..200),
        lives in 1u32..4,
    ) {
        let mut choices = Choices(choices.into_iter());
        let mut world = World::new(plan);
        for _ in 0..lives {
            let end = live(&mut world, &mut choices);
            prop_assert_eq!(Next::End(end.clone()), world.next(), "after an end nothing is made");
            let agents = world.steps.iter().filter(|step| step.life == world.present.life && step.kind.is_agent());
            // A step of a former life that runs again keeps its number, and is counted for this life.
            let most = world.plan.limits.agent_attempts.map_or(usize::MAX, |most| most as usize + 1);
            prop_assert!(agents.count() <= most);
            prop_assert_eq!(end.reason.is_none(), end.verdict == Verdict::Succeeded);
            prop_assert!(end.reason.as_ref().is_none_or(|reason| reason.code != Code::Ok), "{:?}", end);
            if end.verdict == Verdict::Succeeded {
                success_is_proved(&world);
                break;
            }
            prop_assert!(!end.is_trip || (end.verdict == Verdict::Quarantined) == (world.plan.limits.on_trip == OnTrip::Quarantine));
            let hand = (choices.of(3) == 1).then(|| format!("hand {}", world.present.life));
            world.resume(hand);
        }
    }
}

#[test]
fn an_interruption_says_nothing_of_the_work_and_a_crash_of_the_program_does() {
    let killed = |signal| interruption(Outcome::Killed, Some(&Code::Signal(signal)));
    for signal in [1, 2, 3, 9, 15] {
        assert_eq!(killed(signal), Some(Interruption::Killed), "{signal}");
    }
    for signal in OWN_DOING {
        assert_eq!(killed(signal), None, "{signal}");
    }
    for (outcome, code, want) in [
        (Outcome::Lost, None, Some(Interruption::Lost)),
        (Outcome::Canceled, Some(Code::Signal(15)), Some(Interruption::Stopped)),
        (Outcome::Canceled, Some(Code::CanceledByUser), None),
        (Outcome::NotStarted, Some(Code::DiskFull), Some(Interruption::Shortage)),
        (Outcome::NotStarted, Some(Code::StartFailed), Some(Interruption::Shortage)),
        (Outcome::NotStarted, Some(Code::Killed), Some(Interruption::Killed)),
        (Outcome::NotStarted, Some(Code::ToolNotFound), None),
        (Outcome::Failed, Some(Code::ExitCode), None),
        (Outcome::TimedOut, Some(Code::TimedOut), None),
        (Outcome::Succeeded, None, None),
    ] {
        assert_eq!(interruption(outcome, code.as_ref()), want, "{outcome:?} {code:?}");
    }
}

#[test]
fn what_is_interrupted_waits_from_the_second_time_and_never_longer_than_a_minute() {
    let mut world = World::new(plan());
    let mut waits = Vec::new();
    for _ in 0..3 {
        let answer = world.next();
        if let Next::Again(again) = &answer {
            waits.push(again.delay.map(|delay| delay.left(at(1 + 10))));
            // The clock was set back.
            assert_eq!(again.delay.map(|delay| delay.left(at(0))).unwrap_or_default().as_secs() % 60, 0);
        }
        let index = world.start(&answer);
        world.play(index, Event::Breaks(Interruption::Lost));
    }
    assert_eq!(waits, [None, Some(Duration::from_secs(50))]);
}

#[test]
fn the_smaller_rest_of_the_budgets_bounds_an_agent_and_a_rest_of_nothing_ends_the_work() {
    let mut world = World::new(plan());
    (world.present.bundle_rest_usd, world.present.run_rest_usd) = (Some(2.0), Some(0.5));
    assert!(matches!(world.next(), Next::Run(NewStep { max_cost_usd: Some(rest), .. }) if rest == 0.5));
    world.present.run_rest_usd = Some(0.0);
    let Next::End(end) = world.next() else { panic!("nothing may be spent") };
    assert_eq!(end.reason.unwrap().code, Code::BudgetExceeded);
    // What is interrupted would be paid once more.
    world.present.run_rest_usd = None;
    let index = world.start(&world.next());
    world.play(index, Event::Breaks(Interruption::Lost));
    world.present.bundle_rest_usd = Some(-0.1);
    assert!(matches!(world.next(), Next::End(End { verdict: Verdict::Failed, .. })));
}

#[test]
fn numbers_go_on_behind_the_trailers_where_records_are_gone() {
    let mut world = World::new(plan());
    (world.present.last_n, world.present.is_changed) = (7, true);
    assert!(matches!(world.next(), Next::Run(NewStep { n: 8, kind: StepKind::Static, .. })));
}

#[test]
fn a_check_that_passes_where_it_failed_is_flaky_and_fixes_are_counted_by_life() {
    let mut world = World::new(plan());
    for event in [
        Event::Takes("1".to_owned()),
        Event::Fails(Some("A".to_owned())),
        Event::ChangesNothing,
        Event::Passes,
    ] {
        let index = world.start(&world.next());
        world.play(index, event);
    }
    assert_eq!(flaky(&world.plan, &world.steps), [4]);
    let used = |world: &World| used_fixes(&world.plan, &world.steps, &world.present).of(Phase::Static);
    assert_eq!(used(&world), 1);
    world.resume(None);
    assert_eq!(used(&world), 0);
}
