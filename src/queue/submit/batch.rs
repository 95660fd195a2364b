//! Collects a batch of jobs and checks it as a whole before any of it is accepted.
//!
//! Finds duplicate or taken ids and keys, unknown dependencies and circles.
//! It takes no lease for longer than a look, so that `submit` judges ids and keys once more. Hard rule: nothing is
//! changed here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use super::answer::{AcceptedAs, AcceptedJob, IfExists, Refused};
use super::existing::{self, Existing, Patience};
use super::key::{self, Claimant};
use super::refusal::Refusal;
use super::spool::{Span, Spool};
use crate::job::parse;
use crate::job::parse::locate::Locations;
use crate::job::spec::ahead_at;
use crate::job::{Code, JobId, Place, Problem, Problems};
use crate::queue::Result;
use crate::queue::door::Incoming;
use crate::queue::situation::{self, Situation};
use crate::store::{Store, keys};

/// The position of a document in the input.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    /// The file as it was named.
    pub file: Arc<str>,
    /// The line on which the document begins, from 1.
    pub line: usize,
    /// The column, from 1.
    pub column: usize,
}

impl Origin {
    /// Problems of the document, as problems of the input.
    #[must_use]
    pub(crate) fn problems(&self, problems: Vec<Problem>) -> Problems {
        let problems = problems.into_iter().map(|problem| problem.moved(self.line, self.column)).collect();
        Problems { file: self.file.to_string(), problems }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It enters.
    Goes,
    /// It has the key and the content of another job of the batch.
    SameAs(usize),
    Refused,
}

#[derive(Debug)]
pub(super) struct Member {
    pub id: JobId,
    pub span: Span,
    pub key: Option<String>,
    pub fate: Fate,
    /// The jobs that it waits for, its dependencies first.
    pub ahead: Vec<JobId>,
    dependencies: usize,
    origin: Origin,
}

impl Member {
    /// Where its document names the job with this number in `ahead`, and what it says of it.
    pub(super) fn ahead_at(&self, number: usize) -> (String, &'static str) {
        ahead_at(self.dependencies, number)
    }
}

/// The jobs, in the order of the input. In memory are only ids, keys and dependencies.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(super) members: Vec<Member>,
    spool: Spool,
    pub(super) by_id: BTreeMap<JobId, usize>,
    by_key: BTreeMap<String, usize>,
    /// Ids of refused documents: a refusal of a dependent job names them.
    pub(super) refused: BTreeSet<JobId>,
    pub(super) patience: Patience,
}

impl Batch {
    /// An empty batch; a large one is kept in a file in this directory.
    #[must_use]
    pub(crate) fn new(dir: &Path) -> Self {
        Self {
            members: Vec::new(),
            spool: Spool::new(dir),
            by_id: BTreeMap::new(),
            by_key: BTreeMap::new(),
            refused: BTreeSet::new(),
            patience: Patience::new(),
        }
    }

    /// How many jobs would be accepted, as far as is known.
    #[must_use]
    pub(crate) fn accepted(&self) -> usize {
        self.members.iter().filter(|member| member.fate != Fate::Refused).count()
    }

    /// Notes a document that is refused for its content.
    pub(crate) fn refuse_document(&mut self, bytes: &[u8], problems: Problems) -> Refused {
        let id = parse::readable_job_id(bytes);
        self.refused.extend(id.clone());
        Refused { id, code: Code::InvalidJobFile, problems, follows: false }
    }

    /// Adds a valid job, unless its id or its key is a duplicate in the batch.
    pub(crate) fn add(
        &mut self,
        incoming: Incoming<'_>,
        origin: Origin,
    ) -> Result<std::result::Result<(), Refused>> {
        let index = self.members.len();
        let member = Member {
            id: incoming.job.job_id.clone(),
            origin,
            span: self.spool.keep(incoming.bytes)?,
            ahead: incoming.job.ahead().cloned().collect(),
            dependencies: incoming.job.dependencies().len(),
            key: incoming.job.key.clone(),
            fate: Fate::Goes,
        };
        let same_id = self.by_id.get(&member.id).copied();
        let same_key = member.key.as_ref().and_then(|key| self.by_key.get(key)).copied();
        let twin = same_key.filter(|first| same_id.is_none_or(|same_id| same_id == *first));
        if same_id.is_none() && same_key.is_none() {
            self.by_id.insert(member.id.clone(), index);
            self.by_key.extend(member.key.clone().map(|key| (key, index)));
        }
        self.members.push(member);
        if let Some(parent) = &incoming.job.parent {
            let message =
                format!("a part of `{parent}` is not submitted: only the tool of that job starts it");
            return self.refuse(index, Refusal::new(Code::NotUnderParent, "/parent", message)).map(Err);
        }
        if let Some(first) = twin
            && self.content(first)? == parse::content(incoming.bytes)
        {
            self.set_fate(index, Fate::SameAs(first));
            return Ok(Ok(()));
        }
        let repeated = same_id.map(|first| (first, Code::IdRepeated, "/job_id", "id"));
        let repeated = repeated.or(same_key.map(|first| (first, Code::KeyRepeated, "/key", "key")));
        let Some((first, code, pointer, what)) = repeated else { return Ok(Ok(())) };
        let Some(first) = self.members.get(first) else { return Ok(Ok(())) };
        let (file, line) = (&first.origin.file, first.origin.line);
        // Of equal content it would be that job.
        let other = if what == "key" { ", with different content" } else { "" };
        let message =
            format!("duplicate {what} in this batch, first at {file}:{line} (`{}`){other}", first.id);
        self.refuse(index, Refusal::new(code, pointer, message)).map(Err)
    }

    /// Judges the batch as a whole, and gives what is refused, in the order of the input. Where there is no root, nothing is
    /// known but the batch.
    pub(crate) fn check(&mut self, store: Option<&Store>, if_exists: IfExists) -> Result<Vec<Refused>> {
        let mut refused: Vec<(usize, Refused)> = Vec::new();
        for index in 0..self.members.len() {
            let why = store.map(|store| self.why_not(store, index, if_exists)).transpose()?;
            if let Some(why) = why.flatten() {
                refused.push((index, self.refuse(index, why)?));
            }
        }
        loop {
            let before = refused.len();
            self.check_dependencies(store, &mut refused)?;
            self.check_circles(store, &mut refused)?;
            if refused.len() == before {
                break;
            }
        }
        refused.sort_by_key(|(index, _)| *index);
        Ok(refused.into_iter().map(|(_, refused)| refused).collect())
    }

    /// Tells what would become of each job of a checked batch, as it looks now. Nothing is changed.
    pub(crate) fn foretell(&self, store: Option<&Store>, tell: &mut dyn FnMut(AcceptedJob)) -> Result<()> {
        let new =
            |id: &JobId| AcceptedJob { id: id.clone(), accepted_as: AcceptedAs::New, place: Place::Queued };
        let mut would_be: BTreeMap<usize, AcceptedJob> = BTreeMap::new();
        for (index, member) in self.members.iter().enumerate() {
            let inside = match (member.fate, store) {
                (Fate::Refused, _) => continue,
                (Fate::SameAs(first), _) => {
                    let Some(first) = would_be.get(&first) else { continue };
                    AcceptedJob { accepted_as: AcceptedAs::Reused, ..first.clone() }
                }
                (Fate::Goes, None) => new(&member.id),
                (Fate::Goes, Some(store)) => match self.there(store, index)? {
                    Some(there) => there,
                    None => new(&member.id),
                },
            };
            would_be.insert(index, inside.clone());
            tell(inside);
        }
        Ok(())
    }

    /// The job that counts as one of a checked batch: that of its id, or that of its key.
    fn there(&self, store: &Store, index: usize) -> Result<Option<AcceptedJob>> {
        let Some(member) = self.members.get(index) else { return Ok(None) };
        let inside =
            |there: Existing, accepted_as| AcceptedJob { id: there.id, accepted_as, place: there.place };
        if let Some(there) = existing::find(store, &member.id)? {
            let accepted_as = if member.key.is_some() { AcceptedAs::Reused } else { AcceptedAs::Skipped };
            return Ok(Some(inside(there, accepted_as)));
        }
        let Some(key) = &member.key else { return Ok(None) };
        let Some(owner) = keys::owner(store, key)? else { return Ok(None) };
        let Some(there) = existing::find(store, &owner)? else { return Ok(None) };
        let same = there.content(store)? == self.content(index)?;
        Ok(same.then(|| inside(there, AcceptedAs::Reused)))
    }

    /// The bytes of a job.
    pub(super) fn bytes(&self, span: Span) -> Result<Vec<u8>> {
        self.spool.read(span)
    }

    /// Refuses a job, at the place in its document that is the reason.
    pub(super) fn refuse(&mut self, index: usize, why: Refusal) -> Result<Refused> {
        self.set_fate(index, Fate::Refused);
        let Refusal { code, pointer, message, follows } = why;
        let Some(member) = self.members.get(index) else {
            let problems = Problems::one("", Problem::at(1, 1, message));
            return Ok(Refused { id: None, code, problems, follows });
        };
        let bytes = self.spool.read(member.span)?;
        let (line, column) = Locations::scan(&String::from_utf8_lossy(&bytes)).value(&pointer);
        let problem = Problem { pointer, ..Problem::at(line, column, message) };
        let problems = member.origin.problems(vec![problem]);
        let refused = Refused { id: Some(member.id.clone()), code, problems, follows };
        // Of duplicates only the second is refused.
        if self.by_id.get(&member.id) == Some(&index) {
            self.refused.insert(member.id.clone());
        }
        Ok(refused)
    }

    fn set_fate(&mut self, index: usize, fate: Fate) {
        if let Some(member) = self.members.get_mut(index) {
            member.fate = fate;
        }
    }

    fn content(&self, index: usize) -> Result<Option<serde_json::Value>> {
        let Some(member) = self.members.get(index) else { return Ok(None) };
        Ok(parse::content(&self.spool.read(member.span)?))
    }

    /// Why an id or a key cannot be accepted, as it looks without the lease.
    fn why_not(&self, store: &Store, index: usize, if_exists: IfExists) -> Result<Option<Refusal>> {
        let Some(member) = self.members.get(index).filter(|member| member.fate == Fate::Goes) else {
            return Ok(None);
        };
        let id = &member.id;
        let (situation, in_the_way) = situation::look(store, id)?;
        if let Some(reason) = in_the_way {
            return Ok(Some(Refusal::new(Code::JobFileNotTrusted, "/job_id", reason.message)));
        }
        if situation != Situation::Free && if_exists == IfExists::Skip {
            let Some(existing) = existing::find(store, id)? else { return Ok(None) };
            if existing.is_unreadable(store)? {
                // That is refused under its lease.
                return Ok(None);
            }
            let compared = existing.compared(store, &self.spool.read(member.span)?)?;
            return Ok(Refusal::not_skipped(&existing, compared, store));
        }
        let Some(key) = &member.key else { return Ok(Refusal::taken(situation, id)) };
        if situation != Situation::Free {
            let own = keys::owner(store, key)?.is_none_or(|owner| owner == *id);
            // The job behind the id is compared under its lease.
            return Ok(if own { None } else { Refusal::taken(situation, id) });
        }
        let Some(content) = self.content(index)? else { return Ok(None) };
        let refused_by = key::refused_by(store, Claimant { id, key, content: &content })?;
        // A job of the batch takes the place of an owner that is in it, with another key.
        Ok(refused_by.filter(|owner| !self.by_id.contains_key(owner)).map(|owner| Refusal::key_taken(&owner)))
    }
}
