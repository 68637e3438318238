//! The index of blocks by what they hold: the same tokens after the same tokens have the same keys and values.
//!
//! A block is found by the node of the block before it and its own tokens, both compared exactly: the chain of
//! nodes spells the whole prefix, so no collision of hashes can ever show one user's tokens to another. Blocks of 32 tokens
//! are shared as they are; the one that begins most like a prompt, and may hold fewer, is found to be copied. Every salt has
//! a tree of its own. The index also knows why a prefix is missing, for users who ask. Only `blocks` calls this room; it counts
//! and evicts nothing.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::hash::BuildHasher;

use crate::{BLOCK_TOKENS, BlockId, Missed, Salt, TokenId};

/// How many evictions are remembered, to tell what was here from what never was.
const GONE_MAX: usize = 16_384;

/// A place in the trees of prefixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Node {
    /// The start of every sequence of a salt.
    Start(Salt),
    /// The end of one block; a number is never used twice, so a stale node finds nothing.
    End(u64),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Key {
    parent: Node,
    tokens: Box<[TokenId]>,
}

impl Key {
    fn new(parent: Node, tokens: &[TokenId]) -> Self {
        Self { parent, tokens: tokens.into() }
    }

    /// How many tokens both begin with.
    fn shared(&self, tokens: &[TokenId]) -> u32 {
        self.tokens.iter().zip(tokens).take_while(|(a, b)| a == b).count() as u32
    }
}

/// The block that begins most like the tokens that were asked for.
#[derive(Clone, Copy)]
pub(crate) struct Nearest {
    pub(crate) block: BlockId,
    /// How many tokens it begins with that were asked for.
    pub(crate) shared: u32,
    /// How many it holds.
    pub(crate) length: u32,
}

#[derive(Clone)]
struct Entry {
    node: Node,
    key: Key,
    /// The block before it.
    before: Option<BlockId>,
}

/// Which block holds which prefix.
pub(crate) struct PrefixIndex {
    /// In the order of their tokens, so that the nearest to a missing one is beside its place. None begins as a whole
    /// other one does.
    blocks: BTreeMap<Key, BlockId>,
    entries: Vec<Option<Entry>>,
    /// Which block has which node.
    nodes: BTreeMap<Node, BlockId>,
    /// How many nodes there were.
    nodes_made: u64,
    /// Digests of the keys that were removed last, oldest first.
    gone: VecDeque<u64>,
    gone_set: HashSet<u64>,
    hasher: RandomState,
}

impl PrefixIndex {
    pub(crate) fn new(blocks: u32) -> Self {
        Self {
            blocks: BTreeMap::new(),
            entries: vec![None; blocks as usize],
            nodes: BTreeMap::new(),
            nodes_made: 0,
            gone: VecDeque::new(),
            gone_set: HashSet::new(),
            hasher: RandomState::new(),
        }
    }

    /// The block that holds `tokens` after `parent`.
    pub(crate) fn find(&self, parent: Node, tokens: &[TokenId]) -> Option<(BlockId, Node)> {
        let block = *self.blocks.get(&Key::new(parent, tokens))?;
        let entry = self.entries[block.0 as usize].as_ref().expect("an indexed block has its entry");
        Some((block, entry.node))
    }

    /// The block after `parent` that begins most like `tokens`.
    pub(crate) fn nearest(&self, parent: Node, tokens: &[TokenId]) -> Option<Nearest> {
        let key = Key::new(parent, tokens);
        let from = self.blocks.range(&key..).next();
        let neighbours = [self.blocks.range(..&key).next_back(), from].into_iter().flatten();
        let nearest = neighbours.filter(|(neighbour, _)| neighbour.parent == parent).map(|(neighbour, block)| {
            let (shared, length) = (neighbour.shared(tokens), neighbour.tokens.len() as u32);
            Nearest { block: *block, shared, length }
        });
        nearest.max_by_key(|nearest| nearest.shared)
    }

    /// Enters `block`, which nothing in the index begins as, and which begins as nothing in it; names its node.
    pub(crate) fn insert(&mut self, block: BlockId, parent: Node, tokens: &[TokenId]) -> Node {
        let key = Key::new(parent, tokens);
        let node = Node::End(self.nodes_made);
        self.nodes_made += 1;
        let replaced = self.blocks.insert(key.clone(), block);
        assert!(replaced.is_none(), "a prefix is indexed once");
        self.nodes.insert(node, block);
        let before = self.nodes.get(&parent).copied();
        self.entries[block.0 as usize] = Some(Entry { node, key, before });
        node
    }

    /// Forgets `block`, and remembers that it was here.
    pub(crate) fn remove(&mut self, block: BlockId) {
        let Some(entry) = self.entries[block.0 as usize].take() else { return };
        self.blocks.remove(&entry.key);
        self.nodes.remove(&entry.node);
        let digest = self.hasher.hash_one(&entry.key);
        // Only full blocks are asked for by all that they hold.
        if entry.key.tokens.len() < BLOCK_TOKENS as usize || !self.gone_set.insert(digest) {
            return;
        }
        self.gone.push_back(digest);
        if self.gone.len() > GONE_MAX
            && let Some(oldest) = self.gone.pop_front()
        {
            self.gone_set.remove(&oldest);
        }
    }

    pub(crate) fn contains(&self, block: BlockId) -> bool {
        self.entries[block.0 as usize].is_some()
    }

    /// Whether all of a block is known.
    pub(crate) fn is_full(&self, block: BlockId) -> bool {
        let entry = self.entries[block.0 as usize].as_ref();
        entry.is_some_and(|entry| entry.key.tokens.len() == BLOCK_TOKENS as usize)
    }

    /// The salt of an indexed block, and all tokens up to its end.
    pub(crate) fn path(&self, block: BlockId) -> (Salt, Vec<TokenId>) {
        let entry = |block: BlockId| self.entries[block.0 as usize].as_ref().expect("a parent outlives its children");
        let path: Vec<&Entry> = std::iter::successors(Some(entry(block)), |next| next.before.map(entry)).collect();
        let Some(Entry { key: Key { parent: Node::Start(salt), .. }, .. }) = path.last() else {
            unreachable!("only a first block has none before it")
        };
        (*salt, path.iter().rev().flat_map(|entry| entry.key.tokens.iter()).copied().collect())
    }

    /// Why no block holds the next `tokens` after `parent`, which ends at `position`.
    pub(crate) fn missed(&self, parent: Node, tokens: &[TokenId], position: u32) -> Missed {
        let key = Key::new(parent, tokens);
        if self.gone_set.contains(&self.hasher.hash_one(&key)) {
            return Missed::Evicted { position };
        }
        match self.nearest(parent, tokens) {
            None => Missed::New { position },
            Some(Nearest { shared: 0, .. }) if matches!(parent, Node::Start(_)) => Missed::New { position },
            Some(Nearest { shared, length, .. }) if shared == length => Missed::New { position: position + shared },
            Some(Nearest { shared, .. }) => Missed::Differs { position: position + shared },
        }
    }

    /// Panics unless all maps agree and every block's parent is indexed too.
    #[cfg(test)]
    pub(crate) fn check(&self) {
        let entries = self.entries.iter().flatten().count();
        assert_eq!((entries, entries), (self.blocks.len(), self.nodes.len()), "entries, keys and nodes agree");
        for (key, block) in &self.blocks {
            let entry = self.entries[block.0 as usize].as_ref().expect("a key leads to an entry");
            assert!(entry.key == *key, "an entry is found by its key");
            assert_eq!(self.nodes.get(&entry.node), Some(block), "an entry is found by its node");
            assert_eq!(entry.before, self.nodes.get(&key.parent).copied(), "a parent outlives its children");
            assert!(
                matches!(key.parent, Node::Start(_)) || entry.before.is_some(),
                "only a first block has none before it"
            );
        }
        for (one, next) in self.blocks.keys().zip(self.blocks.keys().skip(1)) {
            let begins = one.parent == next.parent && one.shared(&next.tokens) as usize == one.tokens.len();
            assert!(!begins, "no block begins as a whole other one does");
        }
    }
}
