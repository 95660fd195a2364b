//! The real runners: a process for each job, forked by a launcher.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use super::launcher::{Duties, LONGEST, Launcher};
use super::{Ended, Gone, Runners};
use crate::clock::Clock;
use crate::job::result::shorten;
use crate::job::{JobId, Reason};
use crate::queue::recovery::{Again, Recovered};
use crate::runner;
use crate::store::Store;

/// Runs a job; gives the exit status, and why the job was not run.
pub(crate) type Run<'a> = dyn Fn(&JobId) -> (u8, Option<Reason>) + 'a;

/// Runners in processes of their own.
#[derive(Debug)]
pub(crate) struct Processes {
    launcher: Launcher,
    last: i32,
    /// Reports of processes that have not ended yet.
    said: HashMap<i32, Result<Recovered, Reason>>,
}

impl Processes {
    /// Starts the launcher; must be called before any signal handler is installed and while the process is small.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn new(store: &Store, clock: &dyn Clock, run: &Run<'_>) -> io::Result<Self> {
        let recover = |id: &JobId| {
            let recovered = runner::recover(store, clock, id, Again::IfRepeatable);
            as_line(recovered.map_err(|error| Reason::from_error(error.code(), &error)))
        };
        let run = |id: &JobId| {
            let (status, refused) = run(id);
            (status, refused.map(|reason| as_line(Err(reason))))
        };
        let launcher = Launcher::start(Duties { run: &run, recover: &recover })?;
        Ok(Self { launcher, last: 0, said: HashMap::new() })
    }

    fn next(&mut self) -> i32 {
        self.last = self.last.wrapping_add(1);
        self.last
    }
}

/// The outcome of a recovery, or why a job was not run, in one line of the pipe, shortened if too long.
fn as_line(recovered: Result<Recovered, Reason>) -> String {
    const MOST: usize = LONGEST / 8;
    let short = |text: String| shorten(&text, MOST);
    let shortened = match recovered {
        Err(reason) => Err(Reason::new(reason.code, short(reason.message))),
        Ok(Recovered::Quarantined(reason)) => {
            Ok(Recovered::Quarantined(Reason::new(reason.code, short(reason.message))))
        }
        Ok(Recovered::StillRunning(processes)) => {
            Ok(Recovered::StillRunning(vec![short(processes.join(", "))]))
        }
        Ok(Recovered::CannotTell(why)) => Ok(Recovered::CannotTell(short(why))),
        other => other,
    };
    serde_json::to_string(&shortened).unwrap_or_default()
}

impl Runners for Processes {
    // The end of the number reports a fork that failed; a command that cannot be given means that the launcher is gone.
    fn start(&mut self, id: &JobId) -> Result<i32, Gone> {
        let number = self.next();
        self.launcher.run(number, id).map_err(|_| Gone)?;
        Ok(number)
    }

    fn recover(&mut self, id: &JobId) -> Result<i32, Gone> {
        let number = self.next();
        self.launcher.recover(number, id).map_err(|_| Gone)?;
        Ok(number)
    }

    fn ended(&mut self) -> Result<Vec<Ended>, Gone> {
        let replies = self.launcher.replies();
        if replies.gone {
            return Err(Gone);
        }
        for (number, text) in replies.said {
            self.said.extend(serde_json::from_str(&text).ok().map(|said| (number, said)));
        }
        let ended = replies.ended.into_iter();
        Ok(ended.map(|(number, runner)| Ended { number, runner, said: self.said.remove(&number) }).collect())
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.launcher.as_fd()
    }

    fn stop(&mut self, number: i32) {
        // A launcher that is gone is noticed when its replies are read.
        let _ = self.launcher.stop(number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Code;

    #[test]
    fn whatever_was_recovered_fits_into_one_write_and_is_read_as_it_was() {
        let long = "\u{1}\"\n".repeat(5000);
        for recovered in [
            Err(Reason::new(Code::StateUnreadable, long.clone())),
            Ok(Recovered::StillRunning(vec![long.clone(); 9])),
            Ok(Recovered::CannotTell(long.clone())),
            Ok(Recovered::Quarantined(Reason::new(Code::Poison, long))),
        ] {
            let line = as_line(recovered);
            assert!(line.len() < LONGEST && !line.contains('\n'), "{}", line.len());
            assert!(serde_json::from_str::<Result<Recovered, Reason>>(&line).is_ok(), "{line}");
        }
        let lost = Ok(Recovered::Lost(crate::job::Place::Queued));
        assert_eq!(serde_json::from_str::<Result<Recovered, Reason>>(&as_line(lost.clone())).unwrap(), lost);
    }
}
