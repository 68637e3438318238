//! A step gives back what it takes.

use super::*;
use crate::decoder::Decoder;
use crate::native::{Keep, Span};
use crate::random::Recipe;

#[test]
fn a_step_gives_back_every_activation_and_a_second_one_allocates_none() {
    let folder = Recipe::tiny("qwen3", 1).temporary().unwrap();
    let folder = Folder::open(folder.path()).unwrap();
    let options = Options { threads: 1, blocks: 4, precision: Precision::Fast, keep: Keep::Bf16 };
    let mut cpu = Cpu::new(&folder.description, &options).unwrap();
    let decoder = Decoder::load(&folder, &mut cpu, &mut |_| {}).unwrap();
    let mut addresses = Vec::new();
    for start in [0, 2, 4] {
        let spans = [Span { start, len: 2, blocks: &[0] }];
        let mut logits = Vec::new();
        let wanted_spans = spans.map(|span| span.last(1));
        let step = Step { tokens: &[1, 2], spans: &spans, states: &[], wanted: &[1], wanted_spans: &wanted_spans };
        decoder.forward(&step, &mut cpu, &mut logits, &mut || true).unwrap();
        let mut free: Vec<_> = cpu.free.iter().map(|numbers| (numbers.as_ptr(), numbers.capacity())).collect();
        free.sort();
        addresses.push(free);
    }
    assert!(!addresses[0].is_empty());
    assert_eq!(addresses[1], addresses[2]);
    assert_eq!(addresses[0].len(), addresses[2].len());
}
