//! Threads that share a piece of work and meet several times during it.
//!
//! A step of training on a batch takes a hundred microseconds, and its threads meet six times
//! during it. Sleeping and waking up takes about as long as the step, so a thread that waits spins.
//! After a while it yields the processor: where there are fewer processors than threads, the others
//! could not arrive otherwise.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;

/// Turns of the loop before a thread yields the processor: some tens of microseconds.
const TURNS: u32 = 1 << 11;

/// The environment variable that sets how many threads a team may have.
pub const THREADS: &str = "KNOCKLINE_THREADS";
/// The most threads of a team. More are of no use: a step has fewer parts.
const MOST: usize = 256;

/// How many threads a team may have: the value of [`THREADS`], or as many as there are processors.
/// A value that is not a number is ignored.
pub fn available() -> usize {
    let said = std::env::var(THREADS).ok().and_then(|text| text.trim().parse().ok());
    said.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
        .clamp(1, MOST)
}

/// Makes something of each piece, on as many threads as there may be, and passes it to `take` in the
/// order of the pieces. Each thread has a state of its own, from `start`, and is at most two pieces
/// ahead.
///
/// # Errors
/// The first error of `take`, which ends the work.
///
/// # Panics
/// If `make` panics, with its message.
pub fn in_order<P, S, T: Send, E>(
    pieces: impl ExactSizeIterator<Item = P> + Clone + Send,
    start: impl Fn() -> S + Sync,
    make: impl Fn(&mut S, P) -> T + Sync,
    mut take: impl FnMut(T) -> Result<(), E>,
) -> Result<(), E> {
    let count = available().min(pieces.len());
    let (start, make) = (&start, &make);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..count)
            .map(|number| {
                let (sender, results) = sync_channel(1);
                let mine = pieces.clone().skip(number).step_by(count);
                let thread = scope.spawn(move || {
                    let mut state = start();
                    for piece in mine {
                        if sender.send(make(&mut state, piece)).is_err() {
                            return;
                        }
                    }
                });
                (thread, results)
            })
            .collect();
        for (_, (_, finished)) in pieces.zip(threads.iter().cycle()) {
            // A thread that sends nothing more has panicked.
            let Ok(result) = finished.recv() else { break };
            take(result)?;
        }
        for (thread, results) in threads {
            drop(results);
            thread.join().unwrap_or_else(|panic| resume_unwind(panic));
        }
        Ok(())
    })
}

/// One of a team's threads.
#[derive(Clone, Copy)]
pub struct Member<'t> {
    /// The thread's number, from 0.
    pub index: usize,
    /// How many threads the team has.
    pub size: usize,
    meeting: &'t Meeting,
}

#[derive(Default)]
struct Meeting {
    arrived: AtomicUsize,
    number: AtomicUsize,
    broken: AtomicBool,
}

/// Does `work` on `size` threads, including this one, and returns each thread's result.
///
/// # Panics
/// If a thread panics, with its message, or if the system cannot start a thread.
pub fn run<T: Send>(size: usize, work: impl Fn(Member<'_>) -> T + Sync) -> Vec<T> {
    let meeting = &Meeting::default();
    let work = &work;
    let start = move |index| {
        catch_unwind(AssertUnwindSafe(|| work(Member { index, size, meeting })))
            .inspect_err(|_| meeting.break_up())
    };
    let ends = std::thread::scope(|scope| {
        let _end = BreakUp(meeting);
        let others: Vec<_> = (1..size).map(|index| scope.spawn(move || start(index))).collect();
        let mut ends = vec![start(0)];
        ends.extend(others.into_iter().map(|other| other.join().unwrap_or_else(Err)));
        ends
    });
    if ends.iter().all(Result::is_ok) {
        return ends.into_iter().flatten().collect();
    }
    let mut panics: Vec<_> = ends.into_iter().filter_map(Result::err).collect();
    // The other panics only report that there was one.
    let first =
        panics.iter().position(|panic| panic.downcast_ref::<&str>() != Some(&ANOTHER)).unwrap_or(0);
    resume_unwind(panics.swap_remove(first))
}

/// The panic message of a thread that waits for one that has panicked.
const ANOTHER: &str = "another thread of the team has panicked";

/// Ends the meeting on a panic, such as when a thread cannot be started: the threads that have
/// started would wait for it forever.
struct BreakUp<'t>(&'t Meeting);

impl Drop for BreakUp<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.break_up();
        }
    }
}

impl Meeting {
    fn break_up(&self) {
        self.broken.store(true, Ordering::Release);
    }
}

impl Member<'_> {
    /// Waits until every thread of the team has arrived. What was written before is visible after.
    ///
    /// # Panics
    /// If another thread of the team has panicked.
    pub fn meet(&self) {
        let Meeting { arrived, number, broken } = self.meeting;
        let before = number.load(Ordering::Acquire);
        if arrived.fetch_add(1, Ordering::AcqRel) + 1 == self.size {
            arrived.store(0, Ordering::Relaxed);
            number.store(before.wrapping_add(1), Ordering::Release);
            return;
        }
        let mut turns = 0;
        while number.load(Ordering::Acquire) == before {
            if broken.load(Ordering::Acquire) {
                std::panic::panic_any(ANOTHER);
            }
            if turns < TURNS {
                turns += 1;
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
    }

    /// This member's share of `count` items; all shares differ by at most one.
    pub fn share(&self, count: usize) -> Range<usize> {
        share(self.index, self.size, count)
    }
}

/// The share of `count` items for member `index` of `size`.
pub fn share(index: usize, size: usize, count: usize) -> Range<usize> {
    // Earlier members have the larger shares.
    let start = |index: usize| index * (count / size) + index.min(count % size);
    start(index)..start(index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_passes_a_meeting_before_all_have_come() {
        let rounds = 200;
        let seen = AtomicUsize::new(0);
        for size in 1..=4 {
            seen.store(0, Ordering::SeqCst);
            run(size, |member| {
                for round in 1..=rounds {
                    seen.fetch_add(1, Ordering::SeqCst);
                    member.meet();
                    assert_eq!(seen.load(Ordering::SeqCst), round * size);
                    member.meet();
                }
            });
        }
    }

    #[test]
    fn pieces_come_in_order_and_an_error_ends_the_work() {
        let pieces: Vec<u32> = (0..100).collect();
        let mut seen = Vec::new();
        let take = |made: (u32, u32)| {
            seen.push(made.0);
            if made.0 == 50 { Err("enough") } else { Ok(()) }
        };
        let make = |count: &mut u32, piece: &u32| {
            *count += 1;
            (*piece, *count)
        };
        assert_eq!(in_order(pieces.iter(), || 0, make, take), Err("enough"));
        assert!(seen.into_iter().eq(0..=50));
        assert_eq!(in_order([].iter(), || 0, make, |_| Err("nothing")), Ok(()));
    }

    #[test]
    #[should_panic(expected = "a bug in a piece")]
    fn a_panic_in_a_piece_is_passed_on() {
        let make = |(): &mut (), piece: u32| assert!(piece != 7, "a bug in a piece");
        let _ = in_order(0..20_u32, || (), make, |()| Ok::<(), ()>(()));
    }

    #[test]
    fn shares_are_everything_once() {
        for size in 1..6 {
            for count in 0..20 {
                let all: Vec<usize> = (0..size).flat_map(|i| share(i, size, count)).collect();
                assert!(all.into_iter().eq(0..count));
                assert!((0..size).all(|i| share(i, size, count).len().abs_diff(count / size) <= 1));
            }
        }
    }

    #[test]
    #[should_panic(expected = "a bug")]
    fn a_panic_ends_the_whole_team() {
        run(3, |member| {
            assert!(member.index != 2, "a bug");
            member.meet();
        });
    }
}
