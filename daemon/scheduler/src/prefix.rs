//! The index of full blocks by what they hold: the same tokens after the same tokens have the same keys and values.
//!
//! A block is found by the node of the block before it and its own 32 tokens, both compared exactly: the chain of
//! nodes spells the whole prefix, so no collision of hashes can ever show one user's tokens to another. The hash is
//! keyed at random per process. Only `blocks` calls this room; it keeps no counts and decides no eviction.

use std::collections::HashMap;

use crate::{BLOCK_TOKENS, BlockId, TokenId};

/// One full block in the tree of prefixes; never used twice, so a stale one finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Node(u64);

impl Node {
    /// The start of every sequence.
    pub(crate) const ROOT: Self = Self(0);
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    parent: Node,
    tokens: [TokenId; BLOCK_TOKENS as usize],
}

impl Key {
    fn new(parent: Node, tokens: &[TokenId]) -> Self {
        let tokens = tokens.try_into().expect("the index holds full blocks only");
        Self { parent, tokens }
    }
}

/// Which block holds which prefix.
pub(crate) struct PrefixIndex {
    blocks: HashMap<Key, BlockId>,
    /// By block: its own node, and the key it is found by.
    entries: Vec<Option<(Node, Key)>>,
    last: Node,
}

impl PrefixIndex {
    pub(crate) fn new(blocks: u32) -> Self {
        Self { blocks: HashMap::new(), entries: vec![None; blocks as usize], last: Node::ROOT }
    }

    /// The block that holds `tokens` after `parent`.
    pub(crate) fn find(&self, parent: Node, tokens: &[TokenId]) -> Option<(BlockId, Node)> {
        let block = *self.blocks.get(&Key::new(parent, tokens))?;
        let (node, _) = self.entries[block.0 as usize].as_ref().expect("an indexed block has its entry");
        Some((block, *node))
    }

    /// Enters `block`, which nothing equal to is in the index, and names its node.
    pub(crate) fn insert(&mut self, block: BlockId, parent: Node, tokens: &[TokenId]) -> Node {
        let key = Key::new(parent, tokens);
        self.last = Node(self.last.0 + 1);
        let replaced = self.blocks.insert(key.clone(), block);
        assert!(replaced.is_none(), "a prefix is indexed once");
        self.entries[block.0 as usize] = Some((self.last, key));
        self.last
    }

    /// Forgets `block`.
    pub(crate) fn remove(&mut self, block: BlockId) {
        if let Some((_, key)) = self.entries[block.0 as usize].take() {
            self.blocks.remove(&key);
        }
    }

    pub(crate) fn contains(&self, block: BlockId) -> bool {
        self.entries[block.0 as usize].is_some()
    }

    /// Panics unless both maps agree and every block's parent is indexed too.
    #[cfg(test)]
    pub(crate) fn check(&self) {
        let mut nodes: Vec<u64> = self.entries.iter().flatten().map(|(node, _)| node.0).collect();
        nodes.sort_unstable();
        assert_eq!(nodes.len(), self.blocks.len(), "entries and keys agree");
        for (key, block) in &self.blocks {
            let (_, own) = self.entries[block.0 as usize].as_ref().expect("a key leads to an entry");
            assert!(own == key, "an entry is found by its key");
            assert!(
                key.parent == Node::ROOT || nodes.binary_search(&key.parent.0).is_ok(),
                "a parent outlives its children"
            );
        }
    }
}
