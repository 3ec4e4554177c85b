//! The device to train on.

use artifact::{Failure, Result};
use candle_core::Device;

/// The device that the user named: `cpu`, `cuda` or `cuda:K`.
pub fn open(name: &str) -> Result<Device> {
    let place = format!("--device {name}");
    let number = match name.split_once(':') {
        None if name == "cpu" => return Ok(Device::Cpu),
        None if name == "cuda" => Ok(0),
        Some(("cuda", number)) => number.parse::<usize>(),
        _ => return Err(Failure::usage(format_args!("there is no device `{name}`"), place, "use cpu, cuda or cuda:K")),
    };
    let number = number.map_err(|_| Failure::usage("the device's number is no number", &place, "write cuda:0, cuda:1, …"))?;
    if !cfg!(feature = "cuda") {
        return Err(Failure::usage("this build cannot use CUDA", place, "build `train` with `--features cuda`, or use --device cpu"));
    }
    Device::new_cuda(number)
        .map_err(|e| Failure::failed(format_args!("cannot use the GPU: {e}"), place, "check `nvidia-smi`, or use --device cpu"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_names() {
        assert!(open("cpu").expect("the CPU").is_cpu());
        assert!(open("gpu").unwrap_err().what.contains("no device `gpu`"));
        assert!(open("cuda:x").unwrap_err().what.contains("no number"));
        #[cfg(not(feature = "cuda"))]
        assert!(open("cuda:1").unwrap_err().remedy.contains("--features cuda"));
    }
}
