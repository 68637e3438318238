//! Weight files are found, mapped and checked; broken ones are refused by name.

use std::fs;

use super::*;
use crate::random::{Recipe, TempFolder};

/// What opening the folder is refused with.
#[track_caller]
fn refusal(dir: &TempFolder) -> String {
    match Checkpoint::open(dir.path()) {
        Ok(_) => panic!("the folder opened"),
        Err(error) => error.to_string(),
    }
}

#[track_caller]
fn expect(dir: &TempFolder, words: &[&str]) {
    let refusal = refusal(dir);
    assert!(words.iter().all(|word| refusal.contains(word)), "{refusal:?} does not say {words:?}");
}

fn tiny() -> TempFolder {
    Recipe::tiny("llama", 1).temporary().unwrap()
}

/// A folder whose only weight file is this header and so many bytes.
fn with_header(header: &str, bytes: usize) -> TempFolder {
    let dir = TempFolder::new().unwrap();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.resize(file.len() + bytes, 0);
    fs::write(dir.path().join(SINGLE), file).unwrap();
    dir
}

#[test]
fn every_truncation_is_refused_without_a_crash() {
    let dir = tiny();
    let path = dir.path().join(SINGLE);
    let whole = fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    for length in [0, 1, 7, 8, 9, header / 2, header - 1, header, header + 1, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..length]).unwrap();
        expect(&dir, &[SINGLE, "cut short"]);
    }
}

#[test]
fn a_file_of_another_kind_is_told_apart() {
    let dir = tiny();
    fs::write(dir.path().join(SINGLE), "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n").unwrap();
    expect(&dir, &["pointer of Git LFS", "git lfs pull"]);
    expect(&with_header("{{{{", 8), &["not JSON"]);
    let newer = r#"{"a":{"dtype":"F3_NEW","shape":[2],"data_offsets":[0,8]}}"#;
    expect(&with_header(newer, 8), &["unknown variant `F3_NEW`"]);
}

#[test]
fn headers_that_lie_are_refused() {
    let tensor = |offsets: &str| format!(r#"{{"a":{{"dtype":"F32","shape":[2],"data_offsets":{offsets}}}}}"#);
    assert!(Checkpoint::open(with_header(&tensor("[0,8]"), 8).path()).is_ok());
    expect(&with_header(&tensor("[0,16]"), 16), &["shape disagrees"]);
    expect(&with_header(&tensor("[4,12]"), 12), &["tensor a", "gap"]);
    expect(&with_header(&tensor("[8,0]"), 8), &["tensor a", "backwards"]);
    expect(&with_header(&tensor("[0,8]"), 4), &["cut short"]);
    let huge = r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296,4],"data_offsets":[0,8]}}"#;
    expect(&with_header(huge, 8), &["shape disagrees"]);
}

#[test]
fn shards_are_read_as_one_checkpoint() {
    let (one, many) = (tiny(), Recipe::tiny("llama", 1).sharded(3).temporary().unwrap());
    let (one, many) = (Checkpoint::open(one.path()).unwrap(), Checkpoint::open(many.path()).unwrap());
    assert_eq!(many.files.len(), 3);
    assert_eq!(one.names().count(), many.names().count());
    for name in one.names() {
        let (left, right) = (one.tensor(name).unwrap(), many.tensor(name).unwrap());
        assert!(left.shape == right.shape && left.bytes == right.bytes, "{name} differs");
    }
}

#[test]
fn a_missing_shard_is_named() {
    let dir = Recipe::tiny("llama", 1).sharded(3).temporary().unwrap();
    fs::remove_file(dir.path().join("model-00002-of-00003.safetensors")).unwrap();
    expect(&dir, &["model-00002-of-00003.safetensors is missing", "download"]);
}

#[test]
fn an_index_that_points_outside_its_folder_is_refused() {
    for place in [r#""../model.safetensors""#, r#""/etc/passwd""#, r#""..""#, "7", r#""""#] {
        let dir = TempFolder::new().unwrap();
        fs::write(dir.path().join(INDEX), format!(r#"{{"weight_map":{{"a":{place}}}}}"#)).unwrap();
        expect(&dir, &[INDEX, "no file name of this folder"]);
    }
}

#[test]
fn broken_indexes_are_refused() {
    for (text, word) in
        [("{", "not JSON"), ("[]", "JSON object"), ("{}", "no weight_map"), (r#"{"weight_map":{}}"#, "empty")]
    {
        let dir = TempFolder::new().unwrap();
        fs::write(dir.path().join(INDEX), text).unwrap();
        expect(&dir, &[INDEX, word]);
    }
}

#[test]
fn a_tensor_in_two_shards_is_refused() {
    let dir = Recipe::tiny("llama", 1).sharded(2).temporary().unwrap();
    let shard = |index: u32| dir.path().join(format!("model-0000{index}-of-00002.safetensors"));
    fs::copy(shard(1), shard(2)).unwrap();
    expect(&dir, &["is in another file too"]);
}

#[test]
fn folders_without_safetensors_say_what_they_hold() {
    let dir = TempFolder::new().unwrap();
    expect(&dir, &["model.safetensors is missing"]);
    fs::write(dir.path().join("pytorch_model.bin"), "").unwrap();
    expect(&dir, &["pytorch_model.bin is not supported", "safetensors"]);
}
