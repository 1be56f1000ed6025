//! Unknown operations that can't matter, left out and not, on histories larger than brute force can judge.

use super::generate::{Random, Shape, linearizable, spoil};
use super::oracle::{spans_until, unlimited};
use crate::history::Value;
use crate::linearizable::search_pruned;
use crate::model::{Kv, ModelKind, Register};
use crate::prune::that_matter;
use crate::search::{Found, Shortcuts, search};

fn shape(model: ModelKind, random: &mut Random) -> Shape {
    Shape {
        model,
        operations: 24,
        processes: 4,
        keys: 1,
        unknown_one_in: 3,
        failed_one_in: 0,
        values: [0, 6][random.below(2) as usize],
        reads_one_in: 2,
    }
}

#[test]
fn the_verdict_is_the_same_with_and_without_pruning() {
    let (mut pruned_any, mut wrong) = (0, 0);
    for seed in 0..400 {
        let mut random = Random(seed + 7_000_000);
        let kind = [ModelKind::CasRegister, ModelKind::Kv, ModelKind::Register][(seed % 3) as usize].clone();
        let mut history = linearizable(&shape(kind.clone(), &mut random), &Value::Nil, &mut random);
        for _ in 0..random.below(3) {
            spoil(&mut history, &mut random);
        }
        macro_rules! compare {
            ($model:expr) => {{
                let model = $model;
                let spans = spans_until(&model, &history, u64::MAX);
                pruned_any += u32::from(that_matter(&model, &spans).len() < spans.len());
                let pruned = search_pruned(&model, &spans, &mut unlimited());
                let whole = search(&model, &spans, Shortcuts::ALL, &mut unlimited());
                let kind_of = |found: &Found| matches!(found, Found::Linearization(_));
                assert_eq!(kind_of(&pruned), kind_of(&whole), "seed {seed}: {history:#?}");
                wrong += u32::from(!kind_of(&whole));
            }};
        }
        match kind {
            ModelKind::Kv => compare!(Kv { initial: Value::Nil }),
            _ => compare!(Register { initial: Value::Nil, compare_and_set: kind == ModelKind::CasRegister }),
        }
    }
    assert!(pruned_any > 50, "{pruned_any} histories had anything to leave out");
    assert!(wrong > 20, "{wrong} histories were wrong");
}
