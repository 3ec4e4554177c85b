//! The device to train on.

use candle_core::Device;
use failure::{Failure, Result};

/// Opens the device that the user named: `cpu`, `cuda` or `cuda:K`. (xtask has replaced `auto`
/// with one of these.)
pub fn open(name: &str) -> Result<Device> {
    let place = format!("--device {name}");
    let number = match name.split_once(':') {
        None if name == "cpu" => return Ok(Device::Cpu),
        None if name == "cuda" => Ok(0),
        Some(("cuda", number)) => number.parse::<usize>(),
        _ => {
            return Err(Failure::usage(
                format_args!("there is no device `{name}`"),
                place,
                "use cpu, cuda or cuda:K",
            ));
        }
    };
    let number = number.map_err(|_| {
        Failure::usage("the GPU's number is not a whole number", &place, "write cuda:0, cuda:1, …")
    })?;
    if !cfg!(feature = "cuda") {
        return Err(Failure::usage(
            "this build cannot use CUDA",
            place,
            "build `train` with `--features cuda`, or use --device cpu",
        ));
    }
    if let Some(library) = missing() {
        let what = format_args!("NVIDIA's {library} was not found");
        return Err(Failure::usage(
            what,
            place,
            "install NVIDIA's driver and CUDA's libraries where the loader finds them, or use --device cpu",
        ));
    }
    Device::new_cuda(number).map_err(|e| {
        Failure::failed(
            format_args!("cannot use the GPU: {e}"),
            place,
            "check `nvidia-smi`, or use --device cpu",
        )
    })
}

/// The first of CUDA's libraries that is missing. They are opened when they are first needed, so
/// that the program starts without them; candle would panic if one were missing then.
#[cfg(all(feature = "cuda", feature = "dynamic-loading"))]
fn missing() -> Option<&'static str> {
    use candle_core::cuda_backend::cudarc::{cublas, curand, driver};

    // SAFETY: opening a library runs its start-up code, and NVIDIA's libraries have to be trusted.
    let libraries = unsafe {
        [
            ("driver (libcuda)", driver::sys::is_culib_present()),
            ("cuBLAS (libcublas)", cublas::sys::is_culib_present()),
            ("cuRAND (libcurand)", curand::sys::is_culib_present()),
        ]
    };
    libraries.into_iter().find(|(_, there)| !there).map(|(name, _)| name)
}

/// Nothing can be missing: a build without CUDA needs no libraries, and a program that is linked to
/// them does not start without them.
#[cfg(not(all(feature = "cuda", feature = "dynamic-loading")))]
fn missing() -> Option<&'static str> {
    None
}

/// Explains an error of candle or of the device at `place` to the user.
pub fn failed(error: &candle_core::Error, place: &str) -> Failure {
    let said = error.to_string();
    match KNOWN.iter().find(|(name, ..)| said.contains(name)) {
        Some((_, what, remedy)) => Failure::failed(what, place, remedy),
        None => Failure::failed(said, place, "this is a bug; please report it"),
    }
}

const FULL: (&str, &str) = (
    "the GPU's memory is full",
    "check with `nvidia-smi` what else uses it, use a GPU with more memory (--device cuda:K), or use --device cpu",
);
const OTHER_GPU: (&str, &str) = (
    "the program was built for another kind of GPU",
    "build it with CUDA_COMPUTE_CAP set to this GPU's compute capability, such as 80, or use --device cpu",
);

/// Errors from a GPU's driver that are not bugs: a part of the message, what it means, and what to
/// do.
const KNOWN: [(&str, &str, &str); 8] = [
    ("OUT_OF_MEMORY", FULL.0, FULL.1),
    ("ALLOC_FAILED", FULL.0, FULL.1),
    ("NO_BINARY_FOR_GPU", OTHER_GPU.0, OTHER_GPU.1),
    ("INVALID_PTX", OTHER_GPU.0, OTHER_GPU.1),
    (
        "UNSUPPORTED_PTX_VERSION",
        "the GPU's driver is older than the toolkit that the program was built with",
        "use a newer driver (nvcc 13.0 needs 580 or later), build with an older toolkit, or use --device cpu",
    ),
    (
        "COOPERATIVE_LAUNCH_TOO_LARGE",
        "the GPU is too small, or something else uses it",
        "check with `nvidia-smi` what else uses it, or use --device cpu",
    ),
    (
        "LAUNCH_TIMEOUT",
        "the GPU also drives a screen, and an epoch exceeded its time limit",
        "use another GPU (--device cuda:K), or --device cpu",
    ),
    (
        "without its kernels",
        "the program was built without its GPU kernels",
        "build it with NVIDIA's nvcc",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_names() {
        assert!(open("cpu").expect("the CPU").is_cpu());
        assert!(open("gpu").unwrap_err().what.contains("no device `gpu`"));
        assert!(open("cuda:x").unwrap_err().what.contains("not a whole number"));
        #[cfg(not(feature = "cuda"))]
        assert!(open("cuda:1").unwrap_err().remedy.contains("--features cuda"));
    }

    #[test]
    fn a_gpu_whose_memory_is_full_is_told_from_a_bug() {
        // As cudarc 0.19 reports it.
        let full = candle_core::Error::Msg(
            "DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")".into(),
        );
        assert_eq!(failed(&full, "train.slp").what, "the GPU's memory is full");
        assert!(
            failed(&candle_core::Error::Msg("shapes".into()), "train.slp").remedy.contains("bug")
        );
    }
}
