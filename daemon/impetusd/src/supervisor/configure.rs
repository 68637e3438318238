//! What changes while the daemon runs, and who is told of it: another configuration comes in, news of models goes out.

use protocol::news::Happening;
use tokio::time::Instant;

use super::{Pools, State};
use crate::config::Config;
use crate::residency;

impl State {
    /// Puts another configuration in force. Where models may take less than they do, idle ones leave.
    pub(super) fn configure(&mut self, config: Config, pools: Pools) {
        let before = self.setting.config.models.keep_alive;
        let kept_as_before = self.models.values_mut().filter(|model| model.keep_alive == before);
        kept_as_before.for_each(|model| model.keep_alive = config.models.keep_alive);
        (self.setting.config, self.setting.pools) = (config, pools);
        let now = Instant::now();
        for name in residency::surplus(&self.residents(None), pools.budget) {
            tracing::info!(model = %name, "unloading: models may take less now");
            self.leave(&name, now);
        }
        self.settle();
    }

    /// Tells those who watch which models are not as they were last told.
    pub(super) fn announce(&mut self) {
        let now = Instant::now();
        for model in self.models.values_mut() {
            let news = model.news();
            if model.told.replace(news) != Some(news) {
                self.setting.newsroom.tell(Happening::Model(model.card(now)));
            }
        }
    }
}
