//! The arithmetic that training and prediction spend their time in: vectors of sixteen numbers
//! ([`simd`]), products of small matrices on them ([`gemm`]), layers of such products ([`layers`]),
//! sigmoid and tanh ([`activation`]), the map to logits ([`linear`]), the mean of word vectors
//! ([`mean`]), the softmax in training ([`mod@softmax`]) and in predictions ([`odds`]), and threads
//! that meet often enough to share a step of training ([`team`]).
//!
//! Always holds: the same bits on every processor and with any number of threads; but for [`odds`],
//! which uses the system's exponential function, the same bits on every run of one processor.

pub mod activation;
pub mod gemm;
pub mod layers;
pub mod linear;
pub mod mean;
pub mod odds;
pub mod simd;
pub mod softmax;
pub mod team;

/// max(0, z), but NaN for NaN: `max` would turn it into 0, and a net that has diverged would look
/// sound.
#[inline(always)]
#[allow(clippy::inline_always, reason = "see simd")]
pub fn relu(z: f32) -> f32 {
    if z < 0.0 { 0.0 } else { z }
}
