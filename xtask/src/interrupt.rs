//! What Ctrl-C says before it ends the run: how to go on.

use std::sync::atomic::{AtomicBool, Ordering};

/// Whether a stage was started, and whether one that leaves checkpoints was.
static STARTED: AtomicBool = AtomicBool::new(false);
static RESUMES: AtomicBool = AtomicBool::new(false);

/// As shells count: 128 and the signal's number.
const INTERRUPTED: i32 = 130;

/// Notes that a stage starts.
pub fn running(resumes: bool) {
    STARTED.store(true, Ordering::Relaxed);
    RESUMES.fetch_or(resumes, Ordering::Relaxed);
}

/// Has Ctrl-C say how to go on. The stages end with this process: their stdin is a pipe from it.
pub fn watch() {
    let say = || {
        if RESUMES.load(Ordering::Relaxed) {
            eprintln!("\ninterrupted; the same command goes on from the last checkpoint, with --fresh it starts anew");
        } else if STARTED.load(Ordering::Relaxed) {
            eprintln!("\ninterrupted; what is finished is kept, and the same command makes the rest");
        }
        std::process::exit(INTERRUPTED);
    };
    // Without a handler Ctrl-C ends the run as well, and says nothing.
    let _ = ctrlc::set_handler(say);
}
