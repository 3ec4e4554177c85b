//! Figures of a public Python answer, for comparison.

use serde::Serialize;

use crate::parts::PartFacts;

/// Where the figures come from.
#[derive(Serialize)]
pub struct Article {
    title: &'static str,
    used: &'static str,
    used_japanese: &'static str,
}

/// The article.
pub const SOURCE: Article = Article {
    title: "【言語処理100本ノック 2020】第8章: ニューラルネット【Python】",
    used: "pandas, scikit-learn, gensim with the GoogleNews vectors, PyTorch on Colab",
    used_japanese: "pandas、scikit-learn、gensim（GoogleNewsの単語ベクトル）、Colab上のPyTorch",
};

/// The figures by problem.
#[derive(Serialize)]
pub struct Published {
    /// Rows of train, valid, test.
    rows: [usize; 3],
    /// Rows of each category in each part, in label order.
    classes: [[usize; 4]; 3],
    /// Loss of x₁ and mean loss of x₁ to x₄, with another random W.
    start: [f64; 2],
    /// Loss on train and valid after each epoch; on train, it is a running sum divided by n − 1.
    sgd: [[f64; 10]; 2],
    /// Accuracy on train and test.
    pub slp: [f64; 2],
    /// The first and the last of 30 epochs: loss and accuracy on train, on valid.
    curve: [(u32, [f64; 4]); 2],
    /// Batch size; seconds per epoch with evaluation on the CPU, on the GPU.
    pub sweep: [(u64, f64, f64); 11],
    /// The multi-layer net's first and last epoch: loss and accuracy on train, on valid.
    mlp_epochs: [(u32, [f64; 4]); 2],
    /// Accuracy on train and test.
    pub mlp: [f64; 2],
}

impl Published {
    /// Whether the parts have as many rows of each category as those that the answer used.
    pub fn is_of(&self, parts: &[PartFacts]) -> bool {
        parts
            .iter()
            .map(|part| &part.classes[..])
            .eq(self.classes.iter().map(|classes| &classes[..]))
    }
}

/// The figures.
pub const PUBLISHED: Published = Published {
    rows: [10_684, 1_336, 1_336],
    classes: [[4501, 1220, 4235, 728], [563, 153, 529, 91], [563, 152, 530, 91]],
    start: [2.9706, 3.0799],
    sgd: [
        [0.4745, 0.3173, 0.2884, 0.2716, 0.2615, 0.2519, 0.2474, 0.2431, 0.2393, 0.2359],
        [0.3637, 0.3306, 0.3208, 0.3150, 0.3141, 0.3092, 0.3114, 0.3072, 0.3096, 0.3219],
    ],
    slp: [0.920, 0.891],
    curve: [(1, [0.3476, 0.8796, 0.3656, 0.8840]), (30, [0.2119, 0.9289, 0.3262, 0.8945])],
    sweep: [
        (1, 5.4416, 9.0342),
        (2, 3.0029, 4.6391),
        (4, 1.5988, 2.4228),
        (8, 0.8732, 1.2517),
        (16, 0.5445, 0.7149),
        (32, 0.3482, 0.4323),
        (64, 0.2580, 0.2834),
        (128, 0.1984, 0.2070),
        (256, 0.1715, 0.1587),
        (512, 0.2177, 0.2016),
        (1024, 0.1603, 0.1303),
    ],
    mlp_epochs: [(1, [1.1176, 0.6679, 1.1150, 0.6572]), (97, [0.1702, 0.9466, 0.2861, 0.9034])],
    mlp: [0.947, 0.921],
};
