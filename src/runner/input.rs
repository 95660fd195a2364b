//! The input of a tool: its prompt and its standard input.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::PathBuf;

use super::Workplace;
use super::paths::Directories;
use crate::adapter::plan::PlannedInput;
use crate::adapter::{self, Manifest, Plan};
use crate::fs;
use crate::job::{Code, JobFile, Reason};
use crate::process::Input;

/// The file that holds the prompt: the one that the job names, or one that is written here because the adapter wants
/// a file.
pub(super) fn prompt_file(
    place: &Workplace<'_>,
    job: &JobFile,
    manifest: &Manifest,
    directories: &Directories,
    number: u32,
) -> Result<Option<PromptFile>, Reason> {
    if let Some(name) = job.metadata.known.message_file.as_deref().filter(|name| !name.is_empty()) {
        let path = directories.working_dir.join(name);
        // A literal command names the file itself, and may make it first.
        if job.command.exe.is_none() && !path.is_file() {
            let message = format!("`metadata.message_file` `{}` is not a file", path.display());
            return Err(Reason::new(Code::PathMissing, message));
        }
        return Ok(Some(path).filter(|path| path.is_file()).map(|path| PromptFile { path, _memory: None }));
    }
    let wanted = manifest.args.iter().any(|argument| match argument {
        adapter::manifest::Argument::One(text) => text.contains("{prompt_file}"),
        adapter::manifest::Argument::Optional(texts) => texts.iter().any(|t| t.contains("{prompt_file}")),
    });
    let Some(prompt) = job.metadata.known.prompt.as_ref().filter(|_| wanted) else { return Ok(None) };
    let dir = place.store.state("prompts");
    let path = dir.join(format!("{}.{number}.md", job.job_id));
    let shown = place.environment.secrets_of(job, Some(manifest)).redact(prompt);
    let written = fs::create_dir(&dir)
        .and_then(|_| fs::remove(&path))
        .and_then(|_| fs::create_new(&path, shown.as_bytes()));
    written.map_err(|error| Reason::from_error(Code::StateNotWritable, &error))?;
    if shown == *prompt {
        return Ok(Some(PromptFile { path, _memory: None }));
    }
    let memory = in_memory(prompt).map_err(|error| {
        Reason::new(Code::StartFailed, format!("prompt in memory: {error}")).because(&error)
    })?;
    // By our pid, not `self`: the tool opens it, or a child of the tool that has none of our descriptors.
    let path = PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), memory.as_raw_fd()));
    Ok(Some(PromptFile { path, _memory: Some(memory) }))
}

/// A prompt that the tool reads from a file.
pub(super) struct PromptFile {
    /// The input of the tool.
    pub path: PathBuf,
    /// What `path` leads to where the prompt holds a secret and must be in no file; open until the tool has ended.
    _memory: Option<File>,
}

/// A file without a name, which no other process can change.
fn in_memory(text: &str) -> io::Result<File> {
    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
    let mut file = File::from(memfd_create("prompt", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
    file.write_all(text.as_bytes())?;
    fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(file)
}

/// Opens standard input.
#[expect(clippy::disallowed_methods, reason = "only reads, without waiting for the writer of a pipe")]
pub(super) fn open_stdin(plan: &Plan, directories: &Directories) -> Result<Input, Reason> {
    match &plan.stdin {
        PlannedInput::Null => Ok(Input::Null),
        PlannedInput::Text(text) => Ok(Input::Bytes(text.clone().into_bytes())),
        PlannedInput::File(name) => {
            let path = directories.working_dir.join(name);
            // Opening a pipe waits for a writer, when no limit holds yet and no signal is heeded: it is not waited for.
            let opened =
                OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(&path);
            let opened = opened.and_then(|file| {
                let kind = file.metadata()?.file_type();
                rustix::io::ioctl_fionbio(&file, false)?;
                Ok((file, kind))
            });
            match opened {
                Ok((file, kind)) if kind.is_file() || kind.is_char_device() => Ok(Input::File(file)),
                Ok(_) => {
                    let message =
                        format!("standard input `{}` is neither a file nor a device", path.display());
                    Err(Reason::new(Code::StdinNotAFile, message))
                }
                Err(error) => {
                    let message = format!("standard input `{}`: {error}", path.display());
                    Err(Reason::new(Code::PathMissing, message).because(&error))
                }
            }
        }
    }
}
