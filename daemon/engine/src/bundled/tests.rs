//! The bundled folders are whole, replaced when damaged, and left alone when right.

use super::*;
use crate::random::TempFolder;

#[test]
fn installing_writes_folders_that_inspect_well() {
    let dir = TempFolder::new().unwrap();
    for installed in install(dir.path()).unwrap() {
        let facts = crate::inspect(&installed.path).unwrap();
        if installed.name.ends_with("embed") {
            assert!(facts.capabilities.embed && facts.dimensions == Some(256), "{} does not embed", installed.name);
            continue;
        }
        assert!(facts.capabilities.chat, "{} has no chat template", installed.name);
        assert!(facts.context_length >= 32_768, "{} has a context of {}", installed.name, facts.context_length);
    }
}

#[test]
fn installing_again_leaves_an_exact_folder_alone() {
    let dir = TempFolder::new().unwrap();
    let path = install(dir.path()).unwrap()[0].path.clone();
    let written = fs::metadata(&path).unwrap().modified().unwrap();
    install(dir.path()).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), written);
}

#[test]
fn a_damaged_folder_is_replaced_and_nothing_is_left_beside_it() {
    let dir = TempFolder::new().unwrap();
    let path = install(dir.path()).unwrap()[0].path.clone();
    let weights = path.join("model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&weights, &bytes).unwrap();
    install(dir.path()).unwrap();
    assert_ne!(fs::read(&weights).unwrap(), bytes);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), MODELS.len());
}
