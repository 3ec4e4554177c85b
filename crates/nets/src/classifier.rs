//! A trained run as a function from features to probabilities.

use std::path::Path;

use candle_core::Device;
use failure::{Failure, Result};
use kernels::layers::Layers;
use schema::{Labels, RunConfig};

use crate::{Inference, Net, ShapeOptions, file, softmax};

/// A trained net on the CPU.
pub struct Classifier {
    net: Inference,
    labels: Labels,
}

impl Classifier {
    /// Reads the net in a training run's `folder`: `config.json` describes it, `labels.json` has the
    /// classes' names, and `model.safetensors` the weights.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("config.json");
        let bytes = std::fs::read(&path).map_err(|e| {
            Failure::artifact(format_args!("cannot read the run's configuration: {e}"), &path)
        })?;
        let config: RunConfig<ShapeOptions> = serde_json::from_slice(&bytes).map_err(|e| {
            Failure::artifact(format_args!("not a run's configuration: {e}"), &path)
        })?;
        let shape = config.options.of(None).map_err(|e| Failure::artifact(e, &path))?;
        let labels = Labels::read(&folder.join(Labels::FILE))?;
        let mut net = Net::zeros(shape, config.features, labels.len(), &Device::Cpu)
            .map_err(|e| Failure::artifact(e, &path))?;
        file::read_net(&folder.join("model.safetensors"), &mut net)?;
        let net = Inference::of(&net).map_err(|e| Failure::artifact(e, &path))?;
        Ok(Self { net, labels })
    }

    /// Components of a row of features.
    pub fn dimension(&self) -> usize {
        self.net.dimension()
    }

    /// The layers of a multi-layer net, with batch norm in them; `None` for a single layer.
    pub fn layers(&self) -> Option<&Layers> {
        self.net.layers()
    }

    /// The classes' names.
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// The logits of each row of `x`, in label order, one row after the other. They do not depend
    /// on the rows beside it.
    pub fn logits(&self, x: &[f32]) -> Vec<f32> {
        self.net.logits(x, 1)
    }

    /// The probabilities of each row of `x`, in label order, one row after the other. They do not
    /// depend on the rows beside it.
    pub fn probabilities(&self, x: &[f32]) -> Vec<f32> {
        let mut all = self.net.logits(x, 1);
        all.chunks_exact_mut(self.net.classes()).for_each(softmax);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Shape;
    use candle_core::Tensor;

    #[test]
    fn a_row_s_answer_does_not_depend_on_its_neighbours() {
        const CLASSES: usize = 19;
        let shape = Shape::MultiLayer { hidden: 200, layers: 1, relu_out: true };
        let mut net = Net::zeros(shape, 300, CLASSES, &Device::Cpu).expect("a net");
        let mut state = 1_u32;
        let mut number = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 8_388_608.0 - 1.0
        };
        for (name, tensor) in net.state() {
            // The running variance is positive.
            let positive = if name == "bn.running_var" { 1.0 } else { 0.0 };
            net.set(&name, (0..tensor.elem_count()).map(|_| number() / 8.0 + positive).collect())
                .expect("sets");
        }
        let labels = Labels::new((0..CLASSES).map(|k| k.to_string()).collect()).expect("labels");
        let classifier = Classifier { net: Inference::of(&net).expect("a net"), labels };
        let x: Vec<f32> = (0..300 * 1000).map(|_| number()).collect();
        let all = classifier.probabilities(&x);
        let tensor = Tensor::from_slice(&x, (1000, 300), &Device::Cpu).expect("X");
        let by_candle = net.logits(&tensor).and_then(|z| z.to_vec2::<f32>()).expect("logits");
        for (threads, number) in [(1, 1000), (3, 1000), (2, 7)] {
            let logits = classifier.net.logits(&x[..300 * number], threads);
            assert_eq!(logits, classifier.net.logits(&x[..300 * number], 1));
            assert_eq!(logits.len(), number * CLASSES);
            for (a, b) in logits.iter().zip(by_candle.iter().flatten()) {
                assert!((a - b).abs() < 1e-5, "{a} {b}");
            }
        }
        for count in [1, 2, 3, 17, 191, 193, 500] {
            let some = classifier.probabilities(&x[..300 * count]);
            assert_eq!(some, all[..count * CLASSES], "the first {count} rows");
        }
    }

    #[test]
    fn a_run_s_folder_gives_its_net_and_another_s_weights_are_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        let shape = Shape::MultiLayer { hidden: 3, layers: 1, relu_out: false };
        let mut net = Net::zeros(shape, 2, 4, &Device::Cpu).expect("a net");
        net.set("fc_out.bias", vec![0.0, 0.0, 2.0_f32.ln(), 0.0]).expect("sets");
        file::write(&dir.path().join("model.safetensors"), &net.state(), None).expect("writes");
        let config = |hidden: usize| {
            let options =
                format!(r#"{{"hidden": {hidden}, "layers": 1, "relu_out": false, "lr": 1}}"#);
            let rest = r#""node": "train.x", "device": "cpu", "features": 2, "parameters": 9, "started_from_given_weights": false"#;
            format!(r#"{{{rest}, "options": {options}}}"#)
        };
        std::fs::write(dir.path().join("config.json"), config(3)).expect("writes");
        std::fs::write(dir.path().join(Labels::FILE), r#"["b", "t", "e", "m"]"#).expect("writes");
        let classifier = Classifier::read(dir.path()).expect("reads");
        let p = classifier.probabilities(&[0.0; 4]);
        assert_eq!(p.len(), 2 * 4);
        assert!((p[4 + 2] - 0.4).abs() < 1e-6 && (p[4] - 0.2).abs() < 1e-6, "{p:?}");
        std::fs::write(dir.path().join("config.json"), config(4)).expect("writes");
        assert!(Classifier::read(dir.path()).err().expect("refused").what.contains("not F32"));
    }
}
