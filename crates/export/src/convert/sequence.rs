//! Nets on sequences of words.

use encoders::Encoder;
use failure::{Failure, Result};
use formats::Arrays;
use formats::arrays::Values;
use model::{EncoderDescription, ModelWriter, NetDescription};
use nets::{EMBEDDING, SequenceInference, Shape, ShapeOptions};

use super::{Converter, Matrix, WORDS, sum};

impl Converter<'_> {
    pub(super) fn sequence(
        &self,
        run: &str,
        prefix: &str,
        to: &mut ModelWriter<'_>,
    ) -> Result<NetDescription> {
        let folder = self.artifacts.join(run);
        let net = SequenceInference::read(&folder)?;
        let path = folder.join("model.safetensors");
        self.check_dimension(net.dimension(), &path)?;
        let arrays = Arrays::map(&path)?;
        let dimension = self.words.dimension;
        let table: Option<Values> = match net.table() {
            None => None,
            Some(_) => {
                // Row 0 is padding.
                let shape = [Some(self.words.rows_of_data() + 1), Some(dimension)];
                Some(Arrays::map(&path)?.into_f32(EMBEDDING, &shape)?.1)
            }
        };
        let own = |row: usize| {
            let place = (row + 1) * dimension..(row + 2) * dimension;
            table.as_ref().and_then(|all| all.get(place)).unwrap_or_default().to_vec()
        };
        let trained: Option<&dyn Fn(usize) -> Vec<f32>> =
            if table.is_some() { Some(&own) } else { None };
        let options: ShapeOptions = self.config(run)?.options;
        let shape = options.of(Some(1)).map_err(|e| Failure::artifact(e, &folder))?;
        let Shape::Sequence(shape) = shape else {
            return Err(Failure::artifact("the net takes no sequences", &folder));
        };
        let all = arrays.shapes()?;
        let read = |name: &str| {
            let of: Vec<Option<usize>> =
                all.get(name).into_iter().flatten().copied().map(Some).collect();
            arrays.f32(name, &of)
        };
        if let Encoder::Mean = shape.encoder {
            return self.mean(shape.hidden.is_some(), read, trained, prefix, to);
        }
        let Some(encoder) = EncoderDescription::of(&shape.encoder) else {
            return Err(Failure::artifact("the encoder is not known", &folder));
        };
        for name in all.keys().filter(|name| *name != EMBEDDING) {
            let (shape, values) = read(name)?;
            to.f32(&format!("{prefix}.{name}"), &shape, values);
        }
        let mut rows = Vec::new();
        self.words.each(|row, vector| match row.filter(|_| table.is_some()) {
            Some(row) => rows.extend_from_slice(&own(row)),
            None => rows.extend_from_slice(vector),
        });
        to.rows(&format!("{prefix}.embedding"), dimension, rows);
        Ok(NetDescription::Sequence { dimension, encoder, hidden: shape.hidden })
    }

    /// A net on the mean of embeddings.
    fn mean(
        &self,
        has_hidden: bool,
        read: impl Fn(&str) -> Result<(Vec<usize>, Vec<f32>)>,
        trained: Option<&dyn Fn(usize) -> Vec<f32>>,
        prefix: &str,
        to: &mut ModelWriter<'_>,
    ) -> Result<NetDescription> {
        let layer = |name: &str| -> Result<(Matrix, Vec<f32>)> {
            let (_, mut values) = read(&format!("{name}.weight"))?;
            let (_, mut bias) = read(&format!("{name}.bias"))?;
            let inputs = values.len() / bias.len().max(1);
            // With two classes, the only output is the second one's logit; the first one's is 0.
            if name == "fc" && bias.len() == 1 {
                values.splice(0..0, vec![0.0; inputs]);
                bias.insert(0, 0.0);
            }
            Ok((Matrix { outputs: bias.len(), values }, bias))
        };
        let (first, bias) = layer(if has_hidden { "hidden" } else { "fc" })?;
        self.products(&first, trained, &format!("{prefix}.rows.0"), to);
        to.f32(&format!("{prefix}.bias"), &[bias.len()], bias);
        if !has_hidden {
            return Ok(sum(vec![WORDS]));
        }
        let (last, bias) = layer("fc")?;
        let shape = [last.outputs, first.outputs];
        to.f32(&format!("{prefix}.layers.0.weight"), &shape, last.values);
        to.f32(&format!("{prefix}.layers.0.bias"), &[bias.len()], bias);
        Ok(NetDescription::Sum { bags: vec![WORDS], layers: 1, order: vec![0], relu_out: false })
    }
}
