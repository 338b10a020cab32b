//! Compiles `src/signatures/prepared.c` against the sources of AWS-LC.
//!
//! aws-lc-sys tells its dependants where its headers and its library are, but not where its
//! sources are: Cargo does.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

const SHIM: &str = "src/signatures/prepared.c";
/// The prefix of all symbols of AWS-LC; it changes with the pinned version.
const PREFIX: &str = "aws_lc_0_47_0";

fn main() {
    println!("cargo::rerun-if-changed={SHIM}");
    println!("cargo::rerun-if-changed=build.rs");
    let source = aws_lc_sys().unwrap_or_else(|why| {
        println!("cargo::error=cannot find the source of aws-lc-sys to build {SHIM}: {why}");
        std::process::exit(1);
    });
    let aws_lc = source.join("aws-lc");
    cc::Build::new()
        .file(SHIM)
        .define("BORINGSSL_IMPLEMENTATION", "1")
        .define("BORINGSSL_PREFIX", PREFIX)
        .include(source.join("generated-include"))
        .include(source.join("include"))
        .include(aws_lc.join("include"))
        .include(aws_lc.join("third_party/s2n-bignum/include"))
        .include(aws_lc.join("third_party/s2n-bignum/s2n-bignum-imported/include"))
        .include(aws_lc.join("crypto/fipsmodule/ml_dsa"))
        // Also in a debug build: unoptimised, a verification takes many times as long.
        .opt_level(3)
        .flag_if_supported("-Wno-unused-function")
        .flag_if_supported("-Wno-unused-parameter")
        .compile("citychain_prepared");
}

/// The directory of the aws-lc-sys package that this build links.
fn aws_lc_sys() -> Result<PathBuf, String> {
    let variable = |name: &str| env::var(name).map_err(|error| format!("{name}: {error}"));
    let output = Command::new(variable("CARGO")?)
        .args([
            "metadata",
            "--format-version=1",
            "--locked",
            "--filter-platform",
        ])
        .arg(variable("TARGET")?)
        .arg("--manifest-path")
        .arg(Path::new(&variable("CARGO_MANIFEST_DIR")?).join("Cargo.toml"))
        .output()
        .map_err(|error| format!("cargo metadata: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr)
            .trim()
            .replace('\n', " "));
    }
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)
        .map_err(|error| format!("cargo metadata: {error}"))?;
    metadata["packages"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|package| package["name"] == "aws-lc-sys")
        .and_then(|package| Path::new(package["manifest_path"].as_str()?).parent())
        .map(Path::to_path_buf)
        .ok_or_else(|| "cargo metadata does not list it".to_owned())
}
