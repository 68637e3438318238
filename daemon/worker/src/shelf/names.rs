//! What the blocks of a prefix are called: each by a digest of the model, the salt and all tokens up to its end.
//!
//! Prefixes that are asked for one after another are mostly beginnings of one: what they share is digested once, also
//! where a long one is put away block by block. It never knows what is on disk. The shelf asks it.

use scheduler::{BLOCK_TOKENS, Salt};
use sha2::{Digest as _, Sha256};

use super::Digest;

/// What is put before a block's name to name the state at its end.
const STATE: &[u8] = b"state";

/// The names of one prefix's blocks, of which others may be beginnings.
pub(super) struct Names {
    model: Digest,
    salt: Salt,
    blocks: Vec<[u32; BLOCK_TOKENS as usize]>,
    names: Vec<Digest>,
}

impl Names {
    /// Names for a model; whoever knows `model` can tell which prefix a name stands for.
    pub fn new(model: Digest) -> Self {
        Self { model, salt: Salt::default(), blocks: Vec::new(), names: Vec::new() }
    }

    /// The names of the full blocks of a prefix.
    pub fn of(&mut self, salt: Salt, prefix: &[u32]) -> &[Digest] {
        let blocks = prefix.as_chunks().0;
        let known = if salt == self.salt { self.blocks.as_slice() } else { &[] };
        let shared = known.iter().zip(blocks).take_while(|(known, block)| known == block).count();
        if shared < blocks.len() {
            self.salt = salt;
            self.blocks.truncate(shared);
            self.names.truncate(shared);
            for block in &blocks[shared..] {
                let before = self.names.last().copied().unwrap_or_else(|| self.root());
                let mut hash = Sha256::new_with_prefix(before);
                block.iter().for_each(|token| hash.update(token.to_le_bytes()));
                self.names.push(hash.finalize().into());
                self.blocks.push(*block);
            }
        }
        &self.names[..blocks.len()]
    }

    /// The names last made: of the prefix that was asked for, and perhaps of what followed it before.
    pub fn last(&self) -> &[Digest] {
        &self.names
    }

    /// What the first block of the salt is named after.
    fn root(&self) -> Digest {
        Sha256::new_with_prefix(self.model).chain_update(self.salt.0.to_le_bytes()).finalize().into()
    }
}

/// The name of the state at a block's end.
pub(super) fn state_of(block: &Digest) -> Digest {
    Sha256::new_with_prefix(STATE).chain_update(block).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_same_whatever_was_asked_for_before() {
        let block = BLOCK_TOKENS;
        let prompt = |seed: u32, tokens: u32| (0..tokens).map(|at| at * seed).collect::<Vec<_>>();
        let forked: Vec<u32> = prompt(3, 2 * block).into_iter().chain(prompt(5, 3 * block)).collect();
        let prefixes =
            [prompt(3, 4 * block), prompt(3, 6 * block + 5), prompt(3, 2 * block), forked, prompt(7, block - 1)];
        let mut names = Names::new([9; 32]);
        // Every order of two, in both salts.
        for (first, second) in prefixes.iter().flat_map(|first| prefixes.iter().map(move |second| (first, second))) {
            for salts in [[1, 1], [1, 2], [2, 1]] {
                for (salt, prefix) in salts.into_iter().zip([first, second]) {
                    let alone = Names::new([9; 32]).of(Salt(salt), prefix).to_vec();
                    assert_eq!(names.of(Salt(salt), prefix), alone, "{} tokens after others", prefix.len());
                    assert_eq!(alone.len(), prefix.len() / block as usize);
                }
            }
        }
    }

    #[test]
    fn a_block_is_named_by_its_model_its_salt_and_all_tokens_before() {
        let prompt: Vec<u32> = (0..2 * BLOCK_TOKENS).collect();
        let name = |model: u8, salt: u64, prompt: &[u32]| Names::new([model; 32]).of(Salt(salt), prompt)[1];
        let mut other = prompt.clone();
        other[0] += 1;
        let all = [name(1, 1, &prompt), name(2, 1, &prompt), name(1, 2, &prompt), name(1, 1, &other)];
        assert!((0..4).all(|at| (0..at).all(|before| all[at] != all[before])));
        assert!(!all.contains(&state_of(&all[0])));
    }
}
