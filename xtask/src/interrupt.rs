//! What Ctrl-C says before it ends the run: how to go on.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Whether a stage was started, and with `--fresh`.
static STARTED: AtomicBool = AtomicBool::new(false);
static FRESH: AtomicBool = AtomicBool::new(false);
/// How many stages run that leave checkpoints.
static RESUMABLE: AtomicUsize = AtomicUsize::new(0);

/// As shells count: 128 and the signal's number.
const INTERRUPTED: i32 = 130;

/// Notes that a stage starts, whether it leaves checkpoints, and whether it was to start anew.
pub fn running(resumes: bool, fresh: bool) {
    STARTED.store(true, Ordering::Relaxed);
    FRESH.store(fresh, Ordering::Relaxed);
    RESUMABLE.fetch_add(usize::from(resumes), Ordering::Relaxed);
}

/// Notes that one has ended.
pub fn ended(resumes: bool) {
    RESUMABLE.fetch_sub(usize::from(resumes), Ordering::Relaxed);
}

/// Has Ctrl-C say how to go on. The stages end with this process: their stdin is a pipe from it.
pub fn watch() {
    let say = || {
        match (RESUMABLE.load(Ordering::Relaxed) > 0, FRESH.load(Ordering::Relaxed)) {
            (true, false) => eprintln!(
                "\ninterrupted; the same command goes on from the last checkpoint, with --fresh it starts anew"
            ),
            (true, true) => eprintln!(
                "\ninterrupted; the same command without --fresh goes on from the last checkpoint"
            ),
            _ if STARTED.load(Ordering::Relaxed) => {
                eprintln!(
                    "\ninterrupted; what is finished is kept, and the same command makes the rest"
                );
            }
            _ => {}
        }
        std::process::exit(INTERRUPTED);
    };
    // Without a handler Ctrl-C ends the run as well, and says nothing.
    let _ = ctrlc::set_handler(say);
}
