//! Builds the programs once and says where they are.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Returns the path of one of the house's programs.
pub fn program(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(build).join(name)
}

/// Returns the root of the checkout.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests crate lies in the checkout")
}

/// Builds every program in the profile of the running test; without changes this takes a moment.
fn build() -> PathBuf {
    let own = std::env::current_exe().expect("a test has a path");
    // Tests run from PROFILE/deps, trials from PROFILE/examples, benches from PROFILE.
    let here = own.parent().expect("a program lies in a folder");
    let inside = here.ends_with("deps") || here.ends_with("examples");
    let folder = if inside { here.parent().expect("it lies in a profile") } else { here }.to_owned();
    let release = folder.ends_with("release");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(root()).args(["build", "--quiet", "--workspace", "--bins"]);
    // What cargo says of this package: build scripts that look at it would run anew, and all that depends on them.
    let told = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(told)).for_each(|(name, _)| {
        cargo.env_remove(name);
    });
    if release {
        cargo.arg("--release");
    }
    let built = cargo.status().expect("cargo runs");
    assert!(built.success(), "the programs do not build");
    folder
}
