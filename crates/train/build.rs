//! Compiles the GPU kernels: to PTX (feature `cuda`), which a driver translates for its GPU, and
//! for the emulator (feature `emulator`).

fn main() {
    println!("cargo:rerun-if-changed=src/gpu/kernels.cu");
    if cfg!(feature = "cuda") {
        ptx();
    }
    #[cfg(feature = "emulator")]
    {
        println!("cargo:rerun-if-changed=src/gpu/emulator.cpp");
        cc::Build::new()
            .cpp(true)
            .std("c++17")
            .opt_level(2)
            .warnings(false)
            .file("src/gpu/emulator.cpp")
            .compile("emulator");
    }
}

/// Compiles with the compiler of candle's kernels: `NVCC`, or else the one in `CUDA_HOME` or
/// `CUDA_PATH`, or else `nvcc`.
fn ptx() {
    for name in ["NVCC", "CUDA_HOME", "CUDA_PATH"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    let set = |name: &str| std::env::var_os(name).map(std::path::PathBuf::from);
    let home = set("CUDA_HOME")
        .or_else(|| set("CUDA_PATH"))
        .map(|home| home.join("bin/nvcc"))
        .filter(|nvcc| nvcc.exists());
    let nvcc = set("NVCC").or(home).unwrap_or_else(|| "nvcc".into());
    let out = set("OUT_DIR").expect("cargo sets it").join("kernels.ptx");
    // A compiler that does nothing is enough to check the Rust code; the program then reports that
    // it has no kernels.
    std::fs::write(&out, "").expect("the build folder can be written");
    // The oldest target that nvcc 13 supports; newer GPUs run its PTX, too.
    let mut command = std::process::Command::new(&nvcc);
    command.args(["-ptx", "-O3", "-arch=compute_75", "-o"]).arg(&out).arg("src/gpu/kernels.cu");
    match command.status() {
        Ok(status) if status.success() => {}
        Ok(status) => panic!("{} could not compile src/gpu/kernels.cu: {status}", nvcc.display()),
        Err(error) => {
            panic!("cannot run {}, which the feature `cuda` needs: {error}", nvcc.display())
        }
    }
}
