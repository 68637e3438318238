//! How much memory the bodies of all requests under way may take together: many large ones at once are refused, small ones
//! never are. `body` takes the room as a body arrives and gives it back when its request is answered.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The most bytes of all bodies together. On its way to the daemon a body takes three to four times its bytes.
const BYTES_MAX: usize = 256 << 20;

/// The bytes of every body that need no room, so that what is small is always heard.
const FREE_BYTES: usize = 64 << 10;

/// The room of all bodies, in kibibytes.
#[derive(Clone)]
pub struct Room(Arc<Semaphore>);

/// What one body takes of it.
pub struct Taken {
    room: Room,
    held: Option<OwnedSemaphorePermit>,
}

impl Default for Room {
    fn default() -> Self {
        Self::of(BYTES_MAX)
    }
}

impl Room {
    fn of(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes >> 10)))
    }

    /// For a body that begins.
    pub fn enter(&self) -> Taken {
        Taken { room: self.clone(), held: None }
    }
}

impl Taken {
    /// Takes what a body of so many bytes needs; false where there is no more room.
    pub fn grow(&mut self, bytes: usize) -> bool {
        let held = self.held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let more = (bytes.saturating_sub(FREE_BYTES).div_ceil(1 << 10)).saturating_sub(held);
        let Some(permit) =
            u32::try_from(more).ok().and_then(|more| self.room.0.clone().try_acquire_many_owned(more).ok())
        else {
            return false;
        };
        match &mut self.held {
            Some(held) => held.merge(permit),
            None => self.held = Some(permit),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_bodies_share_the_room_and_small_ones_need_none() {
        let room = Room::of(1 << 20);
        let (mut one, mut other, mut small) = (room.enter(), room.enter(), room.enter());
        assert!(one.grow(200 << 10) && one.grow(600 << 10));
        assert!(!other.grow(600 << 10));
        assert!(other.grow(500 << 10));
        assert!(small.grow(FREE_BYTES) && !small.grow(FREE_BYTES + (1 << 19)));
        drop(one);
        assert!(small.grow(FREE_BYTES + (1 << 19)));
    }
}
