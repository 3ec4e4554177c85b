//! Sixteen numbers at a time, on whatever vector registers the processor has.
//!
//! Every operation gives the same bits on each of them: sums are taken in one order, and a
//! multiply-add is rounded once. (Where the processor has no fused multiply-add, the portable code
//! has the same result, slowly.)
//!
//! Code that uses a [`Vector`] is inlined into a function that may use the registers; what is not
//! inlined, as an iterator's closure may not be, cannot use them, and is slow.

#![allow(
    clippy::inline_always,
    reason = "a function that is not inlined into one that may use the registers cannot use them"
)]

#[cfg(target_arch = "x86_64")]
mod x86;

/// Of a vector.
pub const LANES: usize = 16;

/// Sixteen numbers. The functions are safe to call where the processor has what the implementation
/// needs.
pub trait Vector: Copy {
    /// Whether there are registers enough for two dozen sums.
    const IS_WIDE: bool;
    /// Zeros.
    fn zero() -> Self;
    /// The same number sixteen times.
    fn all(value: f32) -> Self;
    /// Sixteen numbers from memory.
    fn load(from: &[f32; LANES]) -> Self;
    /// Fewer than sixteen, and zeros behind them.
    fn load_part(from: &[f32]) -> Self;
    /// Sixteen numbers into memory.
    fn store(self, to: &mut [f32; LANES]);
    /// self · by + plus, rounded once.
    fn mul_add(self, by: Self, plus: Self) -> Self;
    /// Each divided by another.
    fn div(self, by: Self) -> Self;
    /// The sum of each: of each four neighbours (0 + 2) + (1 + 3), and of these four sums the same.
    fn sums(of: [Self; 4]) -> [f32; 4];
    /// Asks for the memory at an address, which need not be there.
    fn prefetch(address: *const f32);
}

/// Work that can be done on any kind of vector.
pub trait Work {
    /// What comes of it.
    type Out;
    /// Does it. To be marked `inline(always)`.
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

/// Asks for the memory of some numbers, which will be used soon.
pub fn prefetch(values: &[f32]) {
    #[cfg(target_arch = "x86_64")]
    for line in values.chunks(LANES) {
        x86::prefetch(line.as_ptr());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = values;
}

/// What comes of the work on each kind of register that this processor has, the portable first. For
/// tests: all must be the same.
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

/// Portable code; the compiler finds the registers where every processor of its target has some, as
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
