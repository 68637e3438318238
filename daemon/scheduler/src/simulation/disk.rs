//! The fake disk of the simulation: what is evicted goes there, and what is needed again may come back.

use super::*;

impl Simulation {
    /// Brings back as much of a prefix as the disk has.
    pub(super) fn restore(&mut self, salt: Salt, tokens: &[TokenId]) {
        let full = tokens.len() as u32 / BLOCK_TOKENS;
        let known = self.scheduler.known(salt, tokens).blocks;
        let prefix = |blocks: u32| &tokens[..(blocks * BLOCK_TOKENS) as usize];
        let stored = |blocks| self.disk.get(&(salt, prefix(blocks).to_vec())).copied();
        let stored: Vec<_> = (known + 1..=full).map_while(stored).collect();
        let end = prefix(known + stored.len() as u32);
        let restored = self.scheduler.restore(salt, end);
        let stored_state = self.disk_states.get(&(salt, end.to_vec())).copied();
        let state = stored_state.and_then(|stored| Some((self.scheduler.restore_state(salt, end)?, stored)));
        self.save_evicted();
        for (place, block) in restored {
            self.cache[block.0 as usize] = stored[(place - known) as usize];
            self.tally.restored += 1;
        }
        if let Some((state, stored)) = state {
            self.states[state.0 as usize] = stored;
            self.tally.restored_states += 1;
        }
    }

    /// Sets the sequence whose turn has come aside now and then, and brings another back with what the disk has of it.
    pub(super) fn recall(&mut self) {
        if let Some(due) = self.scheduler.due(self.now_ms).filter(|_| self.random.chance(20)) {
            assert!(self.scheduler.set_aside(due), "what is due waits");
            self.aside.push(due);
            self.tally.set_aside += 1;
        }
        if self.random.chance(40) && !self.aside.is_empty() {
            let id = self.aside.remove(0);
            let (salt, tokens) = (self.asked[&id].salt, self.asked[&id].tokens.clone());
            self.restore(salt, &tokens);
            self.scheduler.bring_back(id);
        }
    }

    /// Stores what was evicted, which must still be intact.
    pub(super) fn save_evicted(&mut self) {
        for Kept { held, salt, tokens } in self.scheduler.take_evicted() {
            let own = histories(salt, &tokens);
            match held {
                Held::Block(block) => {
                    let contents = self.cache[block.0 as usize];
                    assert_eq!(contents[..], own[own.len() - BLOCK_TOKENS as usize..], "a block is what it says");
                    self.disk.insert((salt, tokens), contents);
                }
                Held::State(state) => {
                    let contents = self.states[state.0 as usize];
                    assert_eq!(Some(&contents), own.last(), "a state is what it says");
                    self.disk_states.insert((salt, tokens), contents);
                }
            }
            if self.disk.len() > DISK_MAX {
                self.disk.pop_first();
            }
            if self.disk_states.len() > DISK_MAX {
                self.disk_states.pop_first();
            }
        }
    }
}
