//! A file that looks at fences, the smallest thing that a lock can protect.

use super::FENCED_OFF;
use crate::{Failure, Outcome, failed};
use coordination::lock::guard::Guard;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// Replaces `file` by standard input, unless a larger fence than `fence` was shown for it. The largest is kept in a
/// file beside it, which is locked meanwhile, so that looking and replacing are one step for all on this machine.
pub fn write(file: &Path, fence: u64) -> Outcome {
    let mut data = Vec::new();
    std::io::stdin()
        .lock()
        .read_to_end(&mut data)
        .map_err(|why| failed(format!("cannot read standard input: {why}")))?;
    let fault = |path: &Path, why: std::io::Error| failed(format!("{}: {why}", path.display()));
    let beside = |suffix: &str| {
        let mut name = file.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let (kept, fresh) = (beside(".fence"), beside(".new"));
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let seen = options.open(&kept).map_err(|why| fault(&kept, why))?;
    seen.lock().map_err(|why| fault(&kept, why))?;
    let newest = read_fence(&seen, &kept)?;
    let mut guard = Guard::new(newest);
    if !guard.admit(fence) {
        let text = format!(
            "{} has seen fence {newest}; {fence} is older: whoever shows it has lost the lock",
            file.display()
        );
        return Err(Failure::Exit(FENCED_OFF, Some(text)));
    }
    // First the fence: should this process die now, nobody older gets in.
    let text = format!("{:020}\n", guard.newest());
    std::os::unix::fs::FileExt::write_all_at(&seen, text.as_bytes(), 0)
        .and_then(|()| seen.sync_all())
        .map_err(|why| fault(&kept, why))?;
    File::create(&fresh)
        .and_then(|mut new| new.write_all(&data).and_then(|()| new.sync_all()))
        .and_then(|()| std::fs::rename(&fresh, file))
        .map_err(|why| fault(file, why))
}

fn read_fence(mut seen: &File, path: &Path) -> Result<u64, Failure> {
    let mut text = String::new();
    seen.read_to_string(&mut text)
        .map_err(|why| failed(format!("{}: {why}", path.display())))?;
    match text.trim() {
        "" => Ok(0),
        number => number.parse().map_err(|_| {
            failed(format!(
                "{} holds no fence but {number:?}; write the largest that was used into it",
                path.display()
            ))
        }),
    }
}
