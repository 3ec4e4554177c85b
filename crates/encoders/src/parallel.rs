//! Pieces of work on one thread or on several.

use rayon::prelude::*;

/// Calls `work` with the number of each item and the item, on rayon's current threads or, with
/// `threads` = 1, on this one.
pub fn each<T: Send>(threads: usize, items: &mut [T], work: impl Fn(usize, &mut T) + Sync) {
    if threads > 1 {
        items.par_iter_mut().enumerate().for_each(|(number, item)| work(number, item));
    } else {
        items.iter_mut().enumerate().for_each(|(number, item)| work(number, item));
    }
}
