use super::*;
use proptest::prelude::*;

/// Vectors from a formula. Padding's is not zero, so that a test fails if it is ever used.
struct Table {
    dimension: usize,
    values: Vec<f32>,
}

impl Table {
    fn new(tokens: usize, dimension: usize) -> Self {
        let mut values = numbers(3, tokens * dimension, 1.0);
        values[..dimension].fill(1e6);
        Self { dimension, values }
    }
}

impl Embeddings for Table {
    fn row(&self, id: u32) -> &[f32] {
        &self.values[id as usize * self.dimension..][..self.dimension]
    }
}

/// Numbers from −`scale` to `scale`. Knuth's generator, "The Art of Computer Programming", volume 2,
/// section 3.3.4, line 26.
fn numbers(seed: u64, count: usize, scale: f32) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32 / 8_388_608.0 - 1.0) * scale
    };
    (0..count).map(|_| next()).collect()
}

const TOKENS: usize = 12;
const DIMENSION: usize = 19;

fn nets() -> Vec<Architecture> {
    let recurrent = |pool| Encoder::Recurrent { units: 5, pool };
    let encoders = [
        Encoder::Mean,
        Encoder::Windows { widths: vec![2, 3], filters: 4 },
        recurrent(Pool::Max),
        recurrent(Pool::Attention),
        recurrent(Pool::Last),
    ];
    let mut all = Vec::new();
    for encoder in encoders {
        for (hidden, classes) in [(None, 2), (Some(7), 2), (None, 3)] {
            let encoder = encoder.clone();
            all.push(Architecture { dimension: DIMENSION, encoder, hidden, classes });
        }
    }
    all
}

fn net(architecture: &Architecture) -> Net {
    let mut net = Net::zeros(Layout::new(architecture.clone()));
    for (seed, (name, shape)) in (10..).zip(architecture.tensors()) {
        let mut values = numbers(seed, shape.iter().product(), 0.5).into_iter();
        let Net { layout, weights } = &mut net;
        layout.each(&name, |array, at| weights.0[array][at] = values.next().expect("a value"));
    }
    net
}

fn batch(rows: &[Vec<u32>]) -> Batch {
    let mut batch = Batch::default();
    for row in rows {
        batch.push(row);
    }
    batch
}

fn rows() -> Vec<Vec<u32>> {
    // An empty one, one shorter than any window, and several chunks.
    let lengths = [3, 1, 0, 9, 2, 4, 4, 7, 1, 5, 6];
    lengths.iter().zip(1..).map(|(&n, seed)| tokens(seed, n)).collect()
}

fn tokens(seed: u64, count: usize) -> Vec<u32> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small number")]
    numbers(seed, count, 1.0)
        .iter()
        .map(|x| 1 + ((x + 1.0) * 0.499 * (TOKENS - 1) as f32) as u32)
        .collect()
}

fn labels(count: usize, classes: usize) -> Vec<u32> {
    (0..).take(count).map(|row: u32| row * row % u32::try_from(classes).expect("few")).collect()
}

fn logits(net: &Net, rows: &[Vec<u32>], threads: usize) -> Vec<f32> {
    let table = Table::new(TOKENS, DIMENSION);
    let mut to = Vec::new();
    net.logits(&batch(rows), &table, &mut Pass::default(), threads, &mut to);
    to
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

/// The gradients of the weights, and those of the embeddings by token id.
fn gradients(net: &Net, table: &Table, rows: &[Vec<u32>], threads: usize) -> (Weights, Vec<f32>) {
    let mut to = net.layout.zeros();
    let (batch, mut pass) = (batch(rows), Pass::default());
    let architecture = &net.layout.architecture;
    let labels = labels(rows.len(), architecture.classes);
    let mask: Vec<f32> = numbers(99, rows.len() * architecture.inputs_of_last(), 2.0);
    let targets = Targets { labels: &labels, smoothing: 0.1, mask: Some(&mask) };
    // Twice, since what is left of a batch must not matter to the next.
    for _ in 0..2 {
        assert!(net.gradients((&batch, targets), table, true, &mut pass, threads, &mut to));
    }
    let mut by_table = vec![0.0; TOKENS * DIMENSION];
    let width = DIMENSION.next_multiple_of(16);
    for (by, &token) in pass.by_embeddings().chunks_exact(width).zip(batch.tokens()) {
        by_table[token as usize * DIMENSION..][..DIMENSION].copy_from_slice(&by[..DIMENSION]);
        assert!(by[DIMENSION..].iter().all(|x| *x == 0.0));
    }
    (to, by_table)
}

/// The mean cross-entropy of smoothed labels, in f64 from the net's own logits with a mask.
fn loss(net: &Net, table: &Table, rows: &[Vec<u32>]) -> f64 {
    let Net { layout, .. } = net;
    let classes = layout.architecture.classes;
    let labels = labels(rows.len(), classes);
    let mask = numbers(99, rows.len() * layout.architecture.inputs_of_last(), 2.0);
    let (batch, mut pass) = (batch(rows), Pass::default());
    let outputs = net.outputs_with(&batch, table, &mut pass, &mask);
    let mut sum = 0.0;
    for (row, &label) in outputs.chunks_exact(layout.outputs).zip(&labels) {
        let mut z: Vec<f64> = row.iter().map(|z| f64::from(*z)).collect();
        z.truncate(layout.architecture.outputs());
        if classes == 2 {
            z.insert(0, 0.0);
        }
        let log_sum = z.iter().map(|z| z.exp()).sum::<f64>().ln();
        for (class, z) in z.iter().enumerate() {
            let own = if class == label as usize { 0.9 } else { 0.0 };
            sum += (own + 0.1 / classes as f64) * (log_sum - z);
        }
    }
    sum / rows.len() as f64
}

#[test]
fn gradients_are_those_of_finite_differences() {
    const STEP: f32 = 5e-3;
    for architecture in nets() {
        let (mut net, mut table, rows) =
            (net(&architecture), Table::new(TOKENS, DIMENSION), rows());
        let (by_weights, by_table) = gradients(&net, &table, &rows, 1);
        let mut checked = 0;
        let mut check = |is: f32, slope: f64, what: &str| {
            checked += 1;
            assert!((f64::from(is) - slope).abs() < 2e-3, "{architecture:?} {what}: {is} {slope}");
        };
        for (name, shape) in architecture.tensors() {
            let mut places = Vec::new();
            net.layout.each(&name, |array, at| places.push((array, at)));
            let count: usize = shape.iter().product();
            for &(array, at) in places.iter().step_by(count / 13 + 1) {
                let before = net.weights.0[array][at];
                let mut of = |x: f32| {
                    net.weights.0[array][at] = x;
                    loss(&net, &table, &rows)
                };
                let slope = (of(before + STEP) - of(before - STEP)) / f64::from(2.0 * STEP);
                of(before);
                check(by_weights.0[array][at], slope, &name);
            }
        }
        for at in (DIMENSION..TOKENS * DIMENSION).step_by(17) {
            let before = table.values[at];
            let mut of = |x: f32| {
                table.values[at] = x;
                loss(&net, &table, &rows)
            };
            let slope = (of(before + STEP) - of(before - STEP)) / f64::from(2.0 * STEP);
            of(before);
            check(by_table[at], slope, "embedding");
        }
        assert!(checked > 20);
        assert!(by_table[..DIMENSION].iter().all(|x| *x == 0.0), "padding has a gradient");
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().expect("threads");
    for architecture in nets() {
        let (net, table) = (net(&architecture), Table::new(TOKENS, DIMENSION));
        let of = |threads| {
            let (weights, table) = gradients(&net, &table, &rows(), threads);
            [weights.0.concat(), table, logits(&net, &rows(), threads)].map(|all| bits(&all))
        };
        assert_eq!(of(1), pool.install(|| of(3)), "{architecture:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// A batch leaves padding out, so that it reaches no encoder.
    #[test]
    fn more_padding_changes_no_bit(lengths in prop::collection::vec(0_usize..9, 1..12), padding in 1_usize..9) {
        for architecture in nets() {
            let net = net(&architecture);
            let rows: Vec<Vec<u32>> = lengths.iter().zip(1..).map(|(&n, seed)| tokens(seed, n)).collect();
            let longest = lengths.iter().max().copied().unwrap_or_default() + padding;
            let padded: Vec<Vec<u32>> = rows.iter().map(|row| {
                let mut row = row.clone();
                row.resize(longest, 0);
                row
            }).collect();
            prop_assert_eq!(bits(&logits(&net, &rows, 1)), bits(&logits(&net, &padded, 1)));
            let table = Table::new(TOKENS, DIMENSION);
            let all = |rows: &[Vec<u32>]| {
                let (weights, table) = gradients(&net, &table, rows, 1);
                bits(&[weights.0.concat(), table].concat())
            };
            prop_assert_eq!(all(&rows), all(&padded));
        }
    }

    #[test]
    fn a_sequence_s_logits_do_not_depend_on_its_neighbours(lengths in prop::collection::vec(0_usize..9, 1..20)) {
        for architecture in nets() {
            let net = net(&architecture);
            let rows: Vec<Vec<u32>> = lengths.iter().zip(1..).map(|(&n, seed)| tokens(seed, n)).collect();
            let all = logits(&net, &rows, 1);
            for (row, of) in rows.iter().zip(all.chunks_exact(architecture.classes)) {
                prop_assert_eq!(bits(&logits(&net, std::slice::from_ref(row), 1)), bits(of));
            }
        }
    }
}

#[test]
fn a_weight_that_is_no_number_is_seen() {
    for architecture in nets() {
        for (name, _) in architecture.tensors() {
            let mut net = net(&architecture);
            let mut first = None;
            net.layout.each(&name, |array, at| {
                first.get_or_insert((array, at));
            });
            let (array, at) = first.expect("an element");
            net.weights.0[array][at] = f32::NAN;
            let targets = Targets { labels: &[0], smoothing: 0.0, mask: None };
            let batch = batch(&[vec![1, 2, 3]]);
            let table = Table::new(TOKENS, DIMENSION);
            let (mut to, mut pass) = (net.layout.zeros(), Pass::default());
            assert!(
                !net.gradients((&batch, targets), &table, false, &mut pass, 1, &mut to),
                "{architecture:?} {name}"
            );
        }
    }
}
