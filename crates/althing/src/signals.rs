//! Signals as messages.

use crate::{Failure, failed};
use std::io::Read;
use std::sync::mpsc::Receiver;

/// One message for each SIGINT and SIGTERM, so that what is held can be given back in order.
pub fn signals() -> Result<Receiver<()>, Failure> {
    let fault = |error: std::io::Error| failed(format!("cannot listen for signals: {error}"));
    let (mut read, write) = std::os::unix::net::UnixStream::pair().map_err(fault)?;
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let write = write.try_clone().map_err(fault)?;
        signal_hook::low_level::pipe::register(signal, write).map_err(fault)?;
    }
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut byte = [0];
        while read.read_exact(&mut byte).is_ok() && sender.send(()).is_ok() {}
    });
    Ok(receiver)
}
