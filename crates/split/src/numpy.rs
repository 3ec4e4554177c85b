//! numpy's legacy random numbers: `RandomState(seed)`, its `permutation` and its
//! `choice(replace=False)`, draw for draw.
//!
//! The generator is the Mersenne Twister MT19937 (Matsumoto and Nishimura, "Mersenne Twister: a
//! 623-dimensionally equidistributed uniform pseudo-random number generator", 1998). numpy
//! has frozen this stream (NEP 19), so agreement with it will last.

const N: usize = 624;
const M: usize = 397;

/// numpy's `RandomState`.
pub struct RandomState {
    state: [u32; N],
    next: usize,
}

impl RandomState {
    /// `RandomState(seed)` for a whole number below 2³².
    pub fn new(seed: u32) -> Self {
        let mut state = [seed; N];
        let mut last = seed;
        for (i, word) in (1_u32..).zip(state.iter_mut().skip(1)) {
            last = 1_812_433_253_u32.wrapping_mul(last ^ (last >> 30)).wrapping_add(i);
            *word = last;
        }
        Self { state, next: N }
    }

    fn twist(&mut self) {
        for i in 0..N {
            let y = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % N] & 0x7fff_ffff);
            let odd = if y & 1 == 0 { 0 } else { 0x9908_b0df };
            self.state[i] = self.state[(i + M) % N] ^ (y >> 1) ^ odd;
        }
        self.next = 0;
    }

    fn next_u32(&mut self) -> u32 {
        if self.next == N {
            self.twist();
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// A number in 0..=max by masked rejection: numpy's `random_interval`. A `max` of 0 draws
    /// nothing. u32 suffices for the number of rows: numpy draws 64 bits only beyond that.
    fn up_to(&mut self, max: u32) -> u32 {
        if max == 0 {
            return 0;
        }
        let mask = u32::MAX >> max.leading_zeros();
        loop {
            let value = self.next_u32() & mask;
            if value <= max {
                return value;
            }
        }
    }

    /// Shuffles in place, from the last item down (Fisher–Yates), as `shuffle` does.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            let j = self.up_to(u32::try_from(i).unwrap_or(u32::MAX)) as usize;
            items.swap(i, j);
        }
    }

    /// `permutation(n)`: the numbers below `n`, shuffled.
    pub fn permutation(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        self.shuffle(&mut order);
        order
    }

    /// `choice(items, size, replace=False)`: shuffles all items and takes the first ones.
    pub fn choice(&mut self, items: &[usize], size: usize) -> Vec<usize> {
        self.permutation(items.len())
            .into_iter()
            .take(size)
            .filter_map(|i| items.get(i).copied())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_matches_mt19937() {
        // C++11, [rand.predef]: the 10000th number of mt19937 with seed 5489 is 4123659995.
        let mut random = RandomState::new(5489);
        let last = (0..10_000).map(|_| random.next_u32()).last();
        assert_eq!(last, Some(4_123_659_995));
    }

    #[test]
    fn permutations_and_choices_match_numpy() {
        // numpy 2: r = np.random.RandomState(123); r.permutation(10); r.choice([5, 7, 9], 2,
        // replace=False); r.permutation(3)
        let mut random = RandomState::new(123);
        assert_eq!(random.permutation(10), [4, 0, 7, 5, 8, 3, 1, 6, 9, 2]);
        assert_eq!(random.choice(&[5, 7, 9], 2), [9, 5]);
        assert_eq!(random.permutation(3), [2, 0, 1]);
        assert_eq!(random.permutation(1), [0]);
        assert!(random.permutation(0).is_empty());
    }
}
