//! What is generated before the crate is compiled: the messages, and for the feature
//! `cuda` the kernels of `src/kernels`.

use std::error::Error;
use std::path::PathBuf;
use std::process::Command;

type Outcome = Result<(), Box<dyn Error>>;

fn main() -> Outcome {
    messages()?;
    match std::env::var_os("CARGO_FEATURE_CUDA") {
        Some(_) => kernels(),
        None => Ok(()),
    }
}

fn messages() -> Outcome {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(["proto/control.proto"], ["proto"])?;
    tonic_prost_build::configure()
        .bytes(".")
        .compile_fds(files)?;
    Ok(())
}

/// As PTX, which the driver of any newer GPU compiles for itself.
fn kernels() -> Outcome {
    println!("cargo:rerun-if-changed=src/kernels");
    for name in ["NVCC", "CUDA_HOME", "CUDA_COMPUTE_CAP"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    let nvcc = match (std::env::var("NVCC"), std::env::var("CUDA_HOME")) {
        (Ok(nvcc), _) => nvcc,
        (_, Ok(home)) => format!("{home}/bin/nvcc"),
        _ => "nvcc".to_owned(),
    };
    let capability = std::env::var("CUDA_COMPUTE_CAP").unwrap_or_else(|_| "80".to_owned());
    let ptx = PathBuf::from(std::env::var("OUT_DIR")?).join("kernels.ptx");
    let output = Command::new(&nvcc)
        .args(["--ptx", "-O3", "-std=c++17", "--fmad=false", "--ftz=false"])
        .args(["--prec-div=true", "--prec-sqrt=true"])
        .args([&format!("-arch=compute_{capability}"), "src/kernels/kernels.cu", "-o"])
        .arg(&ptx)
        .output()
        .map_err(|error| format!("{nvcc} can't be started ({error}): eval \"$(scripts/cuda-toolchain)\" installs it, docs/gpu.md"))?;
    if !output.status.success() {
        return Err(format!("{nvcc}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    one_rounding_each(&std::fs::read_to_string(&ptx)?)
}

/// The bits that replicas share come from these kernels: whatever the compiler's
/// flags, no two operations were made one, none is approximate, and no floating-point
/// sum depends on the order of threads.
fn one_rounding_each(ptx: &str) -> Outcome {
    let contracts = |line: &str| {
        let float = line.contains(".f32") || line.contains(".f64");
        let atomic = line.starts_with("atom.") || line.starts_with("red.");
        float
            && (line.starts_with("fma.")
                || line.contains(".approx")
                || line.contains(".ftz")
                || atomic)
    };
    match ptx.lines().map(str::trim).find(|line| contracts(line)) {
        Some(line) => {
            Err(format!("src/kernels: `{line}` isn't one IEEE operation with one rounding").into())
        }
        None => Ok(()),
    }
}
