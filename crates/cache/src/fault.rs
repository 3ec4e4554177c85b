//! Lets a test end a run between any two file operations, as a kill may.

#[cfg(test)]
thread_local!(static LEFT: std::cell::Cell<Option<u32>> = const { std::cell::Cell::new(None) });

/// Makes this thread panic after so many more operations, or never.
#[cfg(test)]
pub fn die_after(operations: Option<u32>) {
    LEFT.set(operations);
}

/// Comes before every file operation.
pub fn step() {
    #[cfg(test)]
    match LEFT.get() {
        Some(0) => panic!("killed"),
        left => LEFT.set(left.map(|n| n - 1)),
    }
}
