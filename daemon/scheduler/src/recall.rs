//! Sequences that lost their blocks and whose turn has come: their owner may bring back what it has put away of them.
//!
//! A preempted sequence goes on from whatever of it is still cached. What was evicted meanwhile would be computed again,
//! unless its owner has it and is asked in time: just before it would be admitted, when there is room for it. Only the
//! owner knows what it has; here a sequence is only named, and left out of plans until it is brought back.

use crate::sequence::Sequence;
use crate::{Scheduler, SequenceId};

impl Scheduler {
    /// The sequence that the next plan would admit first without making room for it.
    pub fn due(&self, now_ms: u64) -> Option<SequenceId> {
        let first = *self.clients.heads(now_ms, |sequence| self.is_eligible(sequence)).first()?;
        self.fits(&first).then(|| self.waiting(&first).id)
    }

    /// Leaves a waiting sequence out of plans until `bring_back`; false if it does not wait.
    pub fn set_aside(&mut self, id: SequenceId) -> bool {
        self.put_aside(id, true)
    }

    /// Lets a sequence that was set aside take its turn again; false if it is not here any more.
    pub fn bring_back(&mut self, id: SequenceId) -> bool {
        self.put_aside(id, false)
    }

    fn put_aside(&mut self, id: SequenceId, aside: bool) -> bool {
        let waiting = self.places.get(&id).and_then(|place| {
            let (client, priority, order) = (place.client, place.priority, place.order);
            self.clients.waiting_at_mut(client, priority, order)
        });
        waiting.map(|sequence| sequence.aside = aside).is_some()
    }

    /// Whether a waiting sequence may take its turn.
    pub(crate) fn is_eligible(&self, sequence: &Sequence) -> bool {
        !sequence.aside && !self.awaits_twin(sequence)
    }
}
