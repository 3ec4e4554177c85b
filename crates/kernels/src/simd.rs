//! Sixteen numbers at a time, on the widest vector registers that the processor has.
//!
//! Every operation gives the same bits on all of them: sums are taken in one order, and a
//! multiply-add is rounded once. (Where the processor has no fused multiply-add, the portable code
//! gives the same result, slowly.)
//!
//! Code that uses a [`Vector`] must be inlined into a function that may use the registers. Code
//! that is not inlined, as an iterator's closure may not be, cannot use them and is slow.

#![allow(
    clippy::inline_always,
    reason = "a function that is not inlined into one that may use the registers cannot use them"
)]

#[cfg(target_arch = "x86_64")]
mod x86;

/// How many numbers a vector has.
pub const LANES: usize = 16;

/// Sixteen numbers. The functions may be called only where the processor has the instructions that
/// the implementation uses.
pub trait Vector: Copy {
    /// Whether there are enough registers for two dozen sums.
    const IS_WIDE: bool;
    /// Zeros.
    fn zero() -> Self;
    /// The same number sixteen times.
    fn all(value: f32) -> Self;
    /// Sixteen numbers from memory.
    fn load(from: &[f32; LANES]) -> Self;
    /// Fewer than sixteen numbers from memory, followed by zeros.
    fn load_part(from: &[f32]) -> Self;
    /// Sixteen numbers into memory.
    fn store(self, to: &mut [f32; LANES]);
    /// `self` · `by` + `plus`, rounded once.
    fn mul_add(self, by: Self, plus: Self) -> Self;
    /// Each number divided by the one at the same position in `by`.
    fn div(self, by: Self) -> Self;
    /// The square root of each number.
    fn sqrt(self) -> Self;
    /// The sum of each vector: every four neighbours are added as (0 + 2) + (1 + 3), and so are the
    /// four sums of these.
    fn sums(of: [Self; 4]) -> [f32; 4];
    /// Prefetches the memory at an address, which need not be valid.
    fn prefetch(address: *const f32);
}

/// Work that can be done on any kind of vector.
pub trait Work {
    /// The result.
    type Out;
    /// Does the work. Implementations must be marked `inline(always)`.
    fn run<V: Vector>(self) -> Self::Out;
}

/// Does the work on the widest registers that this processor has.
pub fn dispatch<W: Work>(work: W) -> W::Out {
    #[cfg(target_arch = "x86_64")]
    {
        if x86::has_avx512() {
            return x86::with_avx512(work);
        }
        if x86::has_avx2() {
            return x86::with_avx2(work);
        }
    }
    work.run::<[f32; LANES]>()
}

/// Prefetches the memory of values that will be used soon.
#[inline]
pub fn prefetch<T>(values: &[T]) {
    /// Bytes of a line of the cache.
    #[cfg(target_arch = "x86_64")]
    const LINE: usize = 64;
    #[cfg(target_arch = "x86_64")]
    for line in values.chunks((LINE / size_of::<T>().max(1)).max(1)) {
        x86::prefetch(line.as_ptr().cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = values;
}

/// The results of the work on each kind of register that this processor has, the portable one
/// first. For tests: all must be equal.
pub fn on_every_kind<W: Work>(work: impl Fn() -> W) -> Vec<W::Out> {
    let mut all = vec![work().run::<[f32; LANES]>()];
    #[cfg(target_arch = "x86_64")]
    {
        if x86::has_avx2() {
            all.push(x86::with_avx2(work()));
        }
        if x86::has_avx512() {
            all.push(x86::with_avx512(work()));
        }
    }
    all
}

/// Portable code. The compiler uses vector registers if every processor of its target has some, as
/// on aarch64.
impl Vector for [f32; LANES] {
    const IS_WIDE: bool = false;
    #[inline(always)]
    fn zero() -> Self {
        [0.0; LANES]
    }
    #[inline(always)]
    fn all(value: f32) -> Self {
        [value; LANES]
    }
    #[inline(always)]
    fn load(from: &[f32; LANES]) -> Self {
        *from
    }
    #[inline(always)]
    fn load_part(from: &[f32]) -> Self {
        let mut all = [0.0; LANES];
        for (to, from) in all.iter_mut().zip(from) {
            *to = *from;
        }
        all
    }
    #[inline(always)]
    fn store(self, to: &mut [f32; LANES]) {
        *to = self;
    }
    #[inline(always)]
    fn mul_add(self, by: Self, plus: Self) -> Self {
        let mut out = plus;
        for ((out, a), b) in out.iter_mut().zip(self).zip(by) {
            *out = a.mul_add(b, *out);
        }
        out
    }
    #[inline(always)]
    fn div(self, by: Self) -> Self {
        let mut out = self;
        for (out, by) in out.iter_mut().zip(by) {
            *out /= by;
        }
        out
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        self.map(f32::sqrt)
    }
    #[inline(always)]
    fn sums(of: [Self; 4]) -> [f32; 4] {
        of.map(|all| {
            let quarter = |q: &[f32; 4]| (q[0] + q[2]) + (q[1] + q[3]);
            let (quarters, _) = all.as_chunks::<4>();
            match quarters {
                [a, b, c, d] => quarter(&[quarter(a), quarter(b), quarter(c), quarter(d)]),
                _ => 0.0,
            }
        })
    }
    #[inline(always)]
    fn prefetch(_: *const f32) {}
}
