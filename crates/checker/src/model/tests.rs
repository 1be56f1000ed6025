//! The models step by step, and their hints against their steps.

use super::*;

fn ok(call: Call, answer: Answer) -> (Call, Option<Answer>) {
    (call, Some(answer))
}

/// All operations of a model over a few values, answered in every way and not at all.
fn operations<M: Model>(model: &M) -> Vec<M::Op> {
    let values = [
        Value::Nil,
        Value::text("1"),
        Value::text("01"),
        Value::text("x"),
        Value::Integer(0),
        Value::Integer(1),
    ];
    let mut calls =
        vec![Call::Read, Call::Delete, Call::Append("x".into()), Call::Add(1), Call::Add(-1), Call::Add(0)];
    for value in &values {
        calls.extend([
            Call::Write(value.clone()),
            Call::GetSet(value.clone()),
            Call::SetIfAbsent(value.clone()),
        ]);
        calls.extend(
            values.iter().map(|new| Call::CompareAndSet { expected: value.clone(), new: new.clone() }),
        );
    }
    let mut answers =
        vec![None, Some(Answer::Nothing), Some(Answer::Applied(true)), Some(Answer::Applied(false))];
    answers.extend((-1..4).map(|number| Some(Answer::Integer(number))));
    answers.extend(values.iter().map(|value| Some(Answer::Value(value.clone()))));
    let all = calls.iter().flat_map(|call| answers.iter().map(move |answer| (call, answer)));
    all.filter_map(|(call, answer)| model.operation(call, answer.as_ref()).ok()).collect()
}

/// Each hint says something about all states: here about all that a few operations reach.
fn hints_hold<M: Model>(model: &M) {
    let operations = operations(model);
    assert!(operations.len() > 10, "{} has operations", model.name());
    let mut states = vec![model.initial()];
    for _ in 0..2 {
        let next: Vec<M::State> = states
            .iter()
            .flat_map(|state| operations.iter().filter_map(|op| model.step(state, op)))
            .collect();
        for state in next {
            if !states.contains(&state) {
                states.push(state);
            }
        }
    }
    for op in &operations {
        let after: Vec<(&M::State, Option<M::State>)> =
            states.iter().map(|state| (state, model.step(state, op))).collect();
        if model.read_only(op) {
            assert!(
                after.iter().all(|(before, after)| after.as_ref().is_none_or(|after| after == *before)),
                "{op:?}"
            );
        }
        if model.overwrites(op) {
            assert!(after.iter().all(|(_, state)| state.is_some() && *state == after[0].1), "{op:?}");
        }
        if let Some(left) = model.leaves(op) {
            let leaves = |(before, after): &(&M::State, Option<M::State>)| {
                after.as_ref().is_none_or(|after| after == *before || *after == left)
            };
            assert!(after.iter().all(leaves), "{op:?}");
        }
        if let Footprint::Values { needs, writes } = model.footprint(op) {
            for (before, after) in &after {
                let here = needs.as_ref().is_none_or(|needs| needs == *before);
                let expected = writes.as_ref().unwrap_or(before);
                match after {
                    Some(after) if here => assert_eq!(after, expected, "{op:?} in {before}"),
                    // Of an unknown operation: no effect elsewhere.
                    Some(after) => assert_eq!(after, *before, "{op:?} in {before}"),
                    None => assert!(!here, "{op:?} is possible in {before}"),
                }
            }
        }
    }
}

#[test]
fn hints_agree_with_the_steps() {
    for compare_and_set in [false, true] {
        hints_hold(&Register { initial: Value::Nil, compare_and_set });
    }
    hints_hold(&Counter { initial: 0 });
    hints_hold(&Kv { initial: Value::Nil });
    hints_hold(&Kv { initial: Value::text("") });
}

#[test]
fn keys_behave_as_in_redis() {
    let model = Kv { initial: Value::Nil };
    let text = Value::text;
    let done = |applied| Answer::Applied(applied);
    let mut state = model.initial();
    for ((call, answer), after) in [
        (ok(Call::Read, Answer::Value(Value::Nil)), Value::Nil),
        (ok(Call::Add(5), Answer::Integer(5)), text("5")),
        (ok(Call::Append("0".into()), Answer::Integer(2)), text("50")),
        (ok(Call::Add(-1), Answer::Integer(49)), text("49")),
        (ok(Call::SetIfAbsent(text("x")), done(false)), text("49")),
        (ok(Call::GetSet(text("x")), Answer::Value(text("49"))), text("x")),
        ((Call::Add(1), None), text("x")),
        (ok(Call::CompareAndSet { expected: text("y"), new: text("z") }, done(false)), text("x")),
        (ok(Call::CompareAndSet { expected: text("x"), new: text("z") }, done(true)), text("z")),
        (ok(Call::Delete, Answer::Integer(1)), Value::Nil),
        (ok(Call::Delete, Answer::Integer(0)), Value::Nil),
        (ok(Call::SetIfAbsent(Value::Integer(7)), done(true)), text("7")),
    ] {
        let op = model.operation(&call, answer.as_ref()).unwrap();
        state = model.step(&state, &op).unwrap_or_else(|| panic!("{call:?} {answer:?} in {state}"));
        assert_eq!(state, after, "{call:?}");
    }
    let impossible = [
        ok(Call::Read, Answer::Value(Value::Nil)),
        ok(Call::Delete, Answer::Integer(0)),
        ok(Call::Append("x".into()), Answer::Integer(1)),
        ok(Call::Add(1), Answer::Integer(9)),
        ok(Call::SetIfAbsent(text("x")), done(true)),
        ok(Call::GetSet(text("x")), Answer::Value(Value::Nil)),
    ];
    for (call, answer) in impossible {
        let op = model.operation(&call, answer.as_ref()).unwrap();
        assert_eq!(model.step(&state, &op), None, "{call:?} {answer:?}");
    }
}

#[test]
fn a_model_refuses_what_it_does_not_have() {
    let register = Register { initial: Value::Nil, compare_and_set: false };
    let cas = Call::CompareAndSet { expected: Value::Nil, new: Value::Integer(1) };
    assert_eq!(register.operation(&cas, None), Err("cas".to_owned()));
    assert!(register.operation(&Call::Read, Some(&Answer::Applied(true))).is_err());
    let with_cas = Register { initial: Value::Nil, compare_and_set: true };
    assert!(
        with_cas.operation(&cas, Some(&Answer::Nothing)).is_err(),
        "whether it took place has to be told"
    );
    assert!(Counter { initial: 0 }.operation(&Call::Delete, None).is_err());
    assert!(Counter { initial: 0 }.operation(&Call::Read, Some(&Answer::Value(Value::text("x")))).is_err());
    assert_eq!(Counter { initial: i64::MAX }.step(&i64::MAX, &CounterOp::Add { by: 1, after: None }), None);
}
