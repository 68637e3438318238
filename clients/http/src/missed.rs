//! Why no more of a prompt came from the prefix cache, as answers tell it beside their token counts.
//!
//! It is worked out by the scheduler and only gets its words here, the same ones in every dialect that has a place for
//! them. The dialects' shapes of token counts hold it.

use protocol::generation::Missed;
use serde::Serialize;
use utoipa::ToSchema;

/// Why no more of a prompt came from the prefix cache.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[schema(as = CacheMissed)]
pub struct MissedBody {
    /// `new`: no cached prompt goes on from here. `differs`: one begins like this one, and differs from this position on.
    /// `evicted`: what stood here was cached, and gave way to other prompts.
    reason: &'static str,
    /// Where that is, in tokens from the start of the prompt as the template renders it.
    position: u32,
}

/// What an answer says; nothing where all came from the cache that can.
pub fn told(missed: Option<Missed>) -> Option<MissedBody> {
    let (reason, position) = match missed? {
        Missed::Nothing => return None,
        Missed::Evicted(position) => ("evicted", position),
        Missed::Differs(position) => ("differs", position),
        Missed::New(position) => ("new", position),
    };
    Some(MissedBody { reason, position })
}
