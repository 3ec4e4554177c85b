//! Ctrl-C: prints how to continue, and ends the run.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Whether a stage was started.
static STARTED: AtomicBool = AtomicBool::new(false);
/// Whether it was started with `--fresh`.
static FRESH: AtomicBool = AtomicBool::new(false);
/// How many running stages leave checkpoints.
static RESUMABLE: AtomicUsize = AtomicUsize::new(0);

/// The exit status that shells use: 128 plus the signal's number.
const INTERRUPTED: i32 = 130;

/// Notes that a stage starts, whether it leaves checkpoints, and whether it starts from scratch.
pub fn running(resumes: bool, fresh: bool) {
    STARTED.store(true, Ordering::Relaxed);
    FRESH.store(fresh, Ordering::Relaxed);
    RESUMABLE.fetch_add(usize::from(resumes), Ordering::Relaxed);
}

/// Notes that a stage has ended.
pub fn ended(resumes: bool) {
    RESUMABLE.fetch_sub(usize::from(resumes), Ordering::Relaxed);
}

/// Makes Ctrl-C print how to continue. The stages end with this process, because their stdin is a
/// pipe from it.
pub fn watch() {
    let say = || match (RESUMABLE.load(Ordering::Relaxed) > 0, FRESH.load(Ordering::Relaxed)) {
        (true, false) => eprintln!(
            "\ninterrupted; repeat the command to resume from the last checkpoint, or add --fresh to start over"
        ),
        (true, true) => eprintln!(
            "\ninterrupted; repeat the command without --fresh to resume from the last checkpoint"
        ),
        _ if STARTED.load(Ordering::Relaxed) => {
            eprintln!(
                "\ninterrupted; finished results are kept, and the same command makes the rest"
            );
        }
        _ => {}
    };
    watch_with(say);
}

/// Makes Ctrl-C do this, and end this process.
pub fn watch_with(act: impl Fn() + Send + 'static) {
    let act = move || {
        act();
        std::process::exit(INTERRUPTED);
    };
    // Without a handler, Ctrl-C still ends the run, but prints nothing.
    let _ = ctrlc::set_handler(act);
}
