//! Files that are cut short, changed at random, or lie in one place: each is refused, none does harm.

use std::fs;

use super::*;

fn whole() -> (TempFolder, Vec<u8>) {
    let (folder, path) = file_of(&Recipe::tiny("llama", 3), Form::Q4_0);
    let bytes = fs::read(path).unwrap();
    (folder, bytes)
}

/// Imports bytes; a panic fails the test.
fn attempt(bytes: &[u8]) -> Result<Imported, LoadError> {
    let folder = TempFolder::new().unwrap();
    let path = folder.path().join("model.gguf");
    fs::write(&path, bytes).unwrap();
    let dir = folder.path().join("made");
    fs::create_dir(&dir).unwrap();
    import(&path, &dir, &mut |_, _| {})
}

/// A stream of random numbers: SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((word ^ word >> 31) % most as u64) as usize
    }
}

#[test]
fn a_file_cut_short_anywhere_is_refused() {
    let (_folder, bytes) = whole();
    let mut random = Random(1);
    let ends = (0..64).chain((0..300).map(|_| random.below(bytes.len())).collect::<Vec<_>>());
    for end in ends.chain([bytes.len() - 32]) {
        let error = attempt(&bytes[..end]).unwrap_err().to_string();
        assert!(error.contains("invalid"), "{end}: {error}");
    }
}

#[test]
fn a_file_changed_at_random_is_refused_or_imported_and_never_harms() {
    let (_folder, bytes) = whole();
    let mut random = Random(2);
    let mut refused = 0;
    for _ in 0..600 {
        let mut bytes = bytes.clone();
        for _ in 0..=random.below(3) {
            // The head is what can lie; it is the first few kilobytes.
            let at = random.below(20_000);
            match random.below(4) {
                0 => bytes[at] = random.below(256) as u8,
                1 => bytes[at..at + 8].fill(0xff),
                2 => bytes[at..at + 8].copy_from_slice(&(1u64 << random.below(64)).to_le_bytes()),
                _ => drop(bytes.drain(at..at + 1 + random.below(16))),
            }
        }
        refused += usize::from(attempt(&bytes).is_err());
    }
    assert!(refused > 100, "{refused} refusals");
}

#[test]
fn counts_that_nobody_could_hold_are_refused_before_memory_is_taken() {
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(3u32.to_le_bytes());
    for (tensors, fields, says) in [(u64::MAX, 0, "tensors"), (0, u64::MAX, "fields"), (60_000, 60_000, "cut short")] {
        let mut bytes = bytes.clone();
        bytes.extend(tensors.to_le_bytes());
        bytes.extend(fields.to_le_bytes());
        let error = attempt(&bytes).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn what_is_no_gguf_file_or_one_of_another_kind_is_told_apart() {
    let error = attempt(b"PK\x03\x04 something else").unwrap_err().to_string();
    assert!(error.contains("does not begin as a GGUF file"), "{error}");
    let error = attempt(b"GGUF\x00\x00\x00\x03").unwrap_err().to_string();
    assert!(error.contains("big-endian"), "{error}");
    let error = attempt(b"GGUF\x01\x00\x00\x00").unwrap_err().to_string();
    assert!(error.contains("version 1"), "{error}");
}

#[test]
fn what_changes_the_numbers_and_is_not_known_is_refused_by_name() {
    let recipe = Recipe::tiny("llama", 3);
    let says = |change: &dyn Fn(&mut Gguf<'_>), words: &str| {
        let (_folder, path) = changed(&recipe, |file| change(file));
        let refusal = refusal(&path);
        assert!(refusal.contains(words), "{refusal:?} does not say {words}");
    };
    says(&|file| file.float("llama.attention.clamp_kqv", 8.0), "llama.attention.clamp_kqv");
    says(&|file| file.vector("blk.0.attn_gate.weight", vec![1.0; 8]), "blk.0.attn_gate.weight");
    says(&|file| file.number("split.count", 3), "3 files");
    says(&|file| file.text("general.type", "adapter"), "type adapter");
    says(&|file| file.vector("blk.0.attn_qkv.weight", vec![1.0; 8]), "without --fuse-qkv");
    says(
        &|file| file.vector("blk.0.ffn_gate_up_exps.weight", vec![1.0; 8]),
        "without --fuse-qkv and --fuse-gate-up-exps",
    );
    let stretch = |file: &mut Gguf<'_>, share: f32| {
        file.text("llama.rope.scaling.type", "yarn");
        file.float("llama.rope.scaling.factor", 4.0);
        file.float("llama.rope.scaling.yarn_ext_factor", share);
    };
    says(&|file| stretch(file, 0.5), "a yarn_ext_factor of 0.5");
    says(&|file| stretch(file, -1.0), "0 tokens");
    // What is off changes nothing; the letters are what is missing then.
    says(&|file| file.float("llama.attention.clamp_kqv", 0.0), "0 tokens");
}

#[test]
fn an_architecture_and_a_form_that_are_not_read_are_refused_by_name() {
    let (_folder, bytes) = whole();
    let replaced = |from: &[u8], to: &[u8]| {
        let at = bytes.windows(from.len()).position(|window| window == from).unwrap();
        let mut bytes = bytes.clone();
        bytes[at..at + to.len()].copy_from_slice(to);
        attempt(&bytes).unwrap_err().to_string()
    };
    assert!(replaced(b"\x05\0\0\0\0\0\0\0llama", b"\x05\0\0\0\0\0\0\0mamba").contains("mamba"));
    // The form of the first tensor follows its two dimensions.
    let name = b"token_embd.weight\x02\0\0\0";
    let at = bytes.windows(name.len()).position(|window| window == name).unwrap() + name.len() + 16;
    let mut changed = bytes.clone();
    changed[at] = 19;
    let error = attempt(&changed).unwrap_err().to_string();
    assert!(error.contains("IQ1_S") && error.contains("token_embd"), "{error}");
}

#[test]
fn tensors_that_share_bytes_are_refused_by_name() {
    let (_folder, mut bytes) = whole();
    // The place of a matrix follows its two dimensions and its form.
    let name = b"blk.0.attn_q.weight\x02\0\0\0";
    let at = bytes.windows(name.len()).position(|window| window == name).unwrap() + name.len() + 16 + 4;
    bytes[at..at + 8].fill(0);
    let error = attempt(&bytes).unwrap_err().to_string();
    assert!(error.contains("blk.0.attn_q.weight") && error.contains("share bytes"), "{error}");
}

#[test]
fn a_missing_tensor_is_named() {
    let (_folder, bytes) = whole();
    let name = b"blk.1.ffn_down.weight";
    let at = bytes.windows(name.len()).position(|window| window == name).unwrap();
    let mut changed = bytes;
    changed[at + 4] = b'2';
    let error = attempt(&changed).unwrap_err().to_string();
    assert!(error.contains("blk.1.ffn_down.weight is missing"), "{error}");
}

#[test]
fn experts_with_tensors_of_their_own_are_refused_by_name() {
    let recipe = Recipe::tiny("mixtral", 3).quantized(8, 32);
    let (_folder, path) = changed(&recipe, |file| file.vector("blk.0.ffn_gate.0.weight", vec![1.0; 8]));
    let mut bytes = fs::read(path).unwrap();
    let name = b"blk.0.ffn_gate_exps.weight";
    let at = bytes.windows(name.len()).position(|window| window == name).unwrap();
    bytes[at + 18] = b'z';
    let error = attempt(&bytes).unwrap_err().to_string();
    assert!(error.contains("a tensor for each expert") && error.contains("newer converters"), "{error}");
}

#[test]
fn lists_that_are_long_only_together_are_refused() {
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(3u32.to_le_bytes());
    bytes.extend([0u64, 5].map(u64::to_le_bytes).concat());
    for field in 0..5u8 {
        bytes.extend(1u64.to_le_bytes());
        bytes.push(b'a' + field);
        // A list of bytes.
        bytes.extend([9u32, 0].map(u32::to_le_bytes).concat());
        bytes.extend((1u64 << 22).to_le_bytes());
        bytes.resize(bytes.len() + (1 << 22), 0);
    }
    let error = attempt(&bytes).unwrap_err().to_string();
    assert!(error.contains("its lists have more than 16777216 entries together"), "{error}");
}
