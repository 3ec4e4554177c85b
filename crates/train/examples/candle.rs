//! An epoch of the single-layer net, trained as in candle's own examples: a `Linear`, its `SGD`, a
//! loss, `backward_step`.
//!
//! `cargo xtask bench` compares knockline's epochs with this one. Prints a JSON object with the
//! seconds for each batch size.
//!
//!     cargo run --package train --example candle -- artifacts/tensors/train.safetensors 1 2 4

use std::collections::HashMap;
use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use candle_nn::{Module, Optimizer, SGD, VarBuilder, VarMap, linear_no_bias, loss::cross_entropy};

fn main() -> candle_core::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().unwrap_or_else(|| "artifacts/tensors/train.safetensors".into());
    let tensors: HashMap<String, Tensor> = candle_core::safetensors::load(&path, &Device::Cpu)?;
    let get = |name: &str| {
        tensors.get(name).ok_or_else(|| candle_core::Error::Msg(format!("{path} has no `{name}`")))
    };
    let (x, y) = (get("X")?, get("y")?.to_dtype(DType::U32)?);
    let (n, d) = x.dims2()?;
    let mut seconds = Vec::new();
    for batch in arguments.filter_map(|size| size.parse::<usize>().ok()) {
        let weights = VarMap::new();
        let net =
            linear_no_bias(d, 4, VarBuilder::from_varmap(&weights, DType::F32, &Device::Cpu))?;
        let mut sgd = SGD::new(weights.all_vars(), 0.1)?;
        let start = Instant::now();
        for at in (0..n).step_by(batch) {
            let rows = batch.min(n - at);
            let loss =
                cross_entropy(&net.forward(&x.narrow(0, at, rows)?)?, &y.narrow(0, at, rows)?)?;
            sgd.backward_step(&loss)?;
        }
        seconds.push(format!("\"{batch}\": {}", start.elapsed().as_secs_f64()));
    }
    println!("{{{}}}", seconds.join(", "));
    Ok(())
}
