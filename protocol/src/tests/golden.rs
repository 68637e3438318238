//! The golden frames: bodies of frames in `protocol/frames`, `NAME.bin` and `NAME.json` side by side.
//!
//! Any implementation, in any language, must read and write them. They change only together with the protocol
//! version: `IMPETUS_WRITE_FRAMES=1 cargo test -p protocol golden` writes them anew.

use std::collections::BTreeSet;
use std::fmt::Debug;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{crate_path, samples};
use crate::wire::{ACCEPTED, Codec, Preface, REFUSED};

/// A golden frame as this build writes it, and whether it reads the committed one back as the same.
struct Golden {
    name: String,
    bin: Vec<u8>,
    json: Value,
    /// Reads committed bytes and JSON, and writes each again in both codecs.
    reread: fn(&[u8], &[u8]) -> [Rewritten; 2],
}

type Rewritten = (Vec<u8>, Value);

fn golden<T: Serialize + DeserializeOwned + Debug>(name: String, value: &T) -> Golden {
    let json = Codec::Json.encode(value).unwrap();
    Golden {
        name,
        bin: Codec::Bincode.encode(value).unwrap(),
        json: serde_json::from_slice(&json).unwrap(),
        reread: |bin, json| {
            let from_bin: T = Codec::Bincode.decode(bin).unwrap();
            let from_json: T = Codec::Json.decode(json).unwrap();
            [from_bin, from_json].map(|value| {
                let json = Codec::Json.encode(&value).unwrap();
                (Codec::Bincode.encode(&value).unwrap(), serde_json::from_slice(&json).unwrap())
            })
        },
    }
}

fn all() -> Vec<Golden> {
    let calls = samples::calls().into_iter().map(|(name, call)| golden(format!("call-{name}"), &call));
    let replies = samples::replies().into_iter().map(|(name, reply)| golden(format!("reply-{name}"), &reply));
    let errors = golden("errors".into(), &samples::errors());
    let delta = golden("delta".into(), &samples::delta());
    calls.chain(replies).chain([errors, delta]).collect()
}

fn prefaces() -> [(&'static str, Preface); 4] {
    [
        ("preface-client-bincode", Preface::client(Codec::Bincode)),
        ("preface-client-json", Preface::client(Codec::Json)),
        ("preface-server-accepted", Preface::server(1, ACCEPTED)),
        ("preface-server-refused", Preface::server(9, REFUSED)),
    ]
}

fn preface_json(preface: Preface) -> Value {
    let Preface { version, codec, status } = preface;
    json!({ "magic": "IMPT", "version": version, "codec": codec, "status": status })
}

fn file(name: &str, extension: &str) -> std::path::PathBuf {
    crate_path("frames").join(format!("{name}.{extension}"))
}

/// Returns the committed files of a frame, after writing them anew if asked to.
fn committed(name: &str, bin: &[u8], json: &Value) -> (Vec<u8>, Vec<u8>) {
    if std::env::var_os("IMPETUS_WRITE_FRAMES").is_some() {
        std::fs::write(file(name, "bin"), bin).unwrap();
        std::fs::write(file(name, "json"), format!("{json:#}\n")).unwrap();
    }
    let read =
        |extension| std::fs::read(file(name, extension)).unwrap_or_else(|error| panic!("{name}.{extension}: {error}"));
    (read("bin"), read("json"))
}

#[test]
fn every_golden_frame_is_written_and_read_the_same_in_both_codecs() {
    for Golden { name, bin, json, reread } in all() {
        let (old_bin, old_json) = committed(&name, &bin, &json);
        assert_eq!(old_bin, bin, "{name}.bin differs from what is written today; that needs a new protocol version");
        let old_value: Value = serde_json::from_slice(&old_json).unwrap();
        assert_eq!(old_value, json, "{name}.json differs from what is written today");
        for (bin_again, json_again) in reread(&old_bin, &old_json) {
            assert_eq!(bin_again, old_bin, "{name} changes when it is read and written");
            assert_eq!(json_again, old_value, "{name} changes when it is read and written");
        }
    }
}

#[test]
fn every_golden_preface_is_written_and_read_the_same() {
    for (name, preface) in prefaces() {
        let (bin, json) = committed(name, &preface.to_bytes(), &preface_json(preface));
        assert_eq!(Preface::from_bytes(bin.try_into().unwrap()), Some(preface), "{name}");
        assert_eq!(serde_json::from_slice::<Value>(&json).unwrap(), preface_json(preface), "{name}");
    }
}

#[test]
fn no_golden_frame_is_forgotten_or_left_over() {
    let mut expected = BTreeSet::new();
    for name in all().iter().map(|frame| frame.name.as_str()).chain(prefaces().map(|(name, _)| name)) {
        assert!(expected.insert(format!("{name}.bin")), "two frames are named {name}");
        expected.insert(format!("{name}.json"));
    }
    let entries = std::fs::read_dir(crate_path("frames")).unwrap();
    let found: BTreeSet<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(found, expected);
}
