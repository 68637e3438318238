//! How texts to be read whole enter: admitted like a generation, and then work like any other.

use std::sync::Arc;

use protocol::Result;
use tokio::time::Instant;

use super::work::{Encoding, Task, Work};
use super::{Asker, State};
use crate::admission::{self, Whole};
use crate::transcript::Transcript;

impl State {
    /// Admits texts; their results go to `transcript`.
    pub(super) fn encode(&mut self, transcript: Arc<Transcript>, request: Whole, asker: Asker) -> Result<()> {
        let limits = self.limits();
        admission::room(&self.occupancy(asker.holder), &limits)?;
        let time = admission::check_whole(&request, &limits)?;
        let models = self.models.iter().map(|(name, model)| (name.as_str(), &model.record().facts));
        let name = admission::resolve_whole(&request, &self.setting.config.models.default_embedder, models)?.to_owned();
        admission::suits_whole(&request, &name, &self.known(&name)?.record().facts)?;
        self.refuse_hopeless(&name)?;
        let now = Instant::now();
        let (id, texts, trace) = (transcript.id().0, request.texts(), asker.trace.map(|place| place.trace.to_string()));
        tracing::info!(request = id, model = %name, texts, trace, "reading texts begins");
        let encoding = match request {
            Whole::Embed(request) => Encoding::from(request),
            Whole::Rerank(request) => Encoding::from(request),
        };
        self.enqueue(&name, Work::new(transcript, Task::Encode(encoding), now + time, &asker), now);
        Ok(())
    }
}
