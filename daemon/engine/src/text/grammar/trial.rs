//! Compiles a grammar only to see that it can be, in a process that may be ended over it.
//!
//! Nothing stops the grammar engine while it compiles, and a short text can ask it for gigabytes. No model is needed:
//! what costs is the grammar itself, and how it meets a vocabulary is bounded by the engine's own limits. The process
//! that renders a model's template calls this before the worker compiles the same.

use std::thread::Builder;

use llguidance::ParserFactory;
use llguidance::api::{GrammarInit, TopLevelGrammar};
use toktrie::ApproximateTokEnv;

use super::{COMPILE_STACK, vocabulary};

/// Compiles what [`super::Written::text`] gives, with as deep a stack as the worker does. What is wrong with it is told
/// where it is compiled for a model.
pub fn try_grammar(text: &str) {
    let Ok(whole) = serde_json::from_str::<TopLevelGrammar>(text) else { return };
    let begun = Builder::new().name("grammar".to_string()).stack_size(COMPILE_STACK).spawn(move || compile(whole));
    // A thread that does not start, or a compiler that fails, is met again where it matters.
    let _ = begun.map(|thread| thread.join());
}

fn compile(whole: TopLevelGrammar) {
    let limits = vocabulary::limits();
    // Without a vocabulary, so that every special token counts as known.
    let Ok((grammar, lexer)) = GrammarInit::Serialized(whole).to_internal(None, limits.clone()) else { return };
    let Ok(mut factory) = ParserFactory::new_simple(&ApproximateTokEnv::single_byte_env()) else { return };
    factory.quiet();
    *factory.limits_mut() = limits;
    let _ = factory.create_parser_from_init_default(GrammarInit::Internal(grammar, lexer));
}
