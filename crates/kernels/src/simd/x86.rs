//! Vectors of sixteen on AVX-512 and AVX2.
//!
//! `unsafe`, since the compiler cannot know that the processor has these instructions: a function
//! that uses them checks the processor first, and every load and store is of a whole array or
//! masked.

#![expect(clippy::undocumented_unsafe_blocks, reason = "all for the two reasons above")]

#[allow(clippy::wildcard_imports, reason = "two dozen instructions")]
use std::arch::x86_64::*;

use super::{LANES, Vector, Work};

pub fn has_avx512() -> bool {
    is_x86_feature_detected!("avx512f") && has_avx2()
}

pub fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
}

pub fn with_avx512<W: Work>(work: W) -> W::Out {
    #[target_feature(enable = "avx512f,avx2,fma")]
    fn inner<W: Work>(work: W) -> W::Out {
        work.run::<Avx512>()
    }
    assert!(has_avx512(), "this processor has no AVX-512");
    // SAFETY: the processor has them, as was just checked.
    unsafe { inner(work) }
}

pub fn with_avx2<W: Work>(work: W) -> W::Out {
    #[target_feature(enable = "avx2,fma")]
    fn inner<W: Work>(work: W) -> W::Out {
        work.run::<Avx2>()
    }
    assert!(has_avx2(), "this processor has no AVX2");
    // SAFETY: the processor has them, as was just checked.
    unsafe { inner(work) }
}

/// Prefetches the memory at an address, which need not be valid: the instruction never fails, and
/// every x86-64 processor has it.
#[inline(always)]
pub fn prefetch(address: *const f32) {
    unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
}

#[derive(Clone, Copy)]
struct Avx512(__m512);

impl Vector for Avx512 {
    const IS_WIDE: bool = true;
    #[inline(always)]
    fn zero() -> Self {
        unsafe { Self(_mm512_setzero_ps()) }
    }
    #[inline(always)]
    fn all(value: f32) -> Self {
        unsafe { Self(_mm512_set1_ps(value)) }
    }
    #[inline(always)]
    fn load(from: &[f32; LANES]) -> Self {
        unsafe { Self(_mm512_loadu_ps(from.as_ptr())) }
    }
    #[inline(always)]
    fn load_part(from: &[f32]) -> Self {
        let mask = (1_u16 << from.len().min(LANES - 1)) - 1;
        unsafe { Self(_mm512_maskz_loadu_ps(mask, from.as_ptr())) }
    }
    #[inline(always)]
    fn store(self, to: &mut [f32; LANES]) {
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), self.0) }
    }
    #[inline(always)]
    fn mul_add(self, by: Self, plus: Self) -> Self {
        unsafe { Self(_mm512_fmadd_ps(self.0, by.0, plus.0)) }
    }
    #[inline(always)]
    fn div(self, by: Self) -> Self {
        unsafe { Self(_mm512_div_ps(self.0, by.0)) }
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        unsafe { Self(_mm512_sqrt_ps(self.0)) }
    }
    #[inline(always)]
    fn sums(of: [Self; 4]) -> [f32; 4] {
        unsafe {
            let [a, b, c, d] = [of[0].0, of[1].0, of[2].0, of[3].0];
            // a₀+a₂ b₀+b₂ a₁+a₃ b₁+b₃ in each quarter, and so on.
            let ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
            let cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
            let all =
                _mm512_add_ps(_mm512_shuffle_ps::<0x44>(ab, cd), _mm512_shuffle_ps::<0xee>(ab, cd));
            let high = _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(all)));
            sums_of_quarters(_mm512_castps512_ps256(all), high)
        }
    }
    #[inline(always)]
    fn prefetch(address: *const f32) {
        prefetch(address);
    }
}

#[derive(Clone, Copy)]
struct Avx2(__m256, __m256);

impl Vector for Avx2 {
    const IS_WIDE: bool = false;
    #[inline(always)]
    fn zero() -> Self {
        unsafe { Self(_mm256_setzero_ps(), _mm256_setzero_ps()) }
    }
    #[inline(always)]
    fn all(value: f32) -> Self {
        unsafe { Self(_mm256_set1_ps(value), _mm256_set1_ps(value)) }
    }
    #[inline(always)]
    fn load(from: &[f32; LANES]) -> Self {
        unsafe { Self(_mm256_loadu_ps(from.as_ptr()), _mm256_loadu_ps(from.as_ptr().add(8))) }
    }
    #[inline(always)]
    fn load_part(from: &[f32]) -> Self {
        Self::load(&<[f32; LANES] as Vector>::load_part(from))
    }
    #[inline(always)]
    fn store(self, to: &mut [f32; LANES]) {
        unsafe {
            _mm256_storeu_ps(to.as_mut_ptr(), self.0);
            _mm256_storeu_ps(to.as_mut_ptr().add(8), self.1);
        }
    }
    #[inline(always)]
    fn mul_add(self, by: Self, plus: Self) -> Self {
        unsafe {
            Self(_mm256_fmadd_ps(self.0, by.0, plus.0), _mm256_fmadd_ps(self.1, by.1, plus.1))
        }
    }
    #[inline(always)]
    fn div(self, by: Self) -> Self {
        unsafe { Self(_mm256_div_ps(self.0, by.0), _mm256_div_ps(self.1, by.1)) }
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        unsafe { Self(_mm256_sqrt_ps(self.0), _mm256_sqrt_ps(self.1)) }
    }
    #[inline(always)]
    fn sums(of: [Self; 4]) -> [f32; 4] {
        unsafe {
            let (low, high) =
                ([of[0].0, of[1].0, of[2].0, of[3].0], [of[0].1, of[1].1, of[2].1, of[3].1]);
            sums_of_quarters(quarters(low), quarters(high))
        }
    }
    #[inline(always)]
    fn prefetch(address: *const f32) {
        prefetch(address);
    }
}

/// The sums of every four neighbours, of four vectors of eight at once.
#[inline(always)]
unsafe fn quarters([a, b, c, d]: [__m256; 4]) -> __m256 {
    unsafe {
        let ab = _mm256_add_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
        let cd = _mm256_add_ps(_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
        _mm256_add_ps(_mm256_shuffle_ps::<0x44>(ab, cd), _mm256_shuffle_ps::<0xee>(ab, cd))
    }
}

/// The sums of four quarters, the first two of which are in `low`.
#[inline(always)]
unsafe fn sums_of_quarters(low: __m256, high: __m256) -> [f32; 4] {
    unsafe {
        let halves = _mm256_add_ps(low, high);
        let sums = _mm_add_ps(_mm256_castps256_ps128(halves), _mm256_extractf128_ps::<1>(halves));
        let mut out = [0.0; 4];
        _mm_storeu_ps(out.as_mut_ptr(), sums);
        out
    }
}
