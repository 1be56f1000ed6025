//! What counts as lost, what is recorded, and how figures are taken from it.

use super::*;

fn found(pairs: &[(&str, &str)]) -> BTreeMap<String, Kept> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), Kept::text(value))).collect()
}

fn promised() -> Promised {
    let mut one = Promised::default();
    one.once.push(("once-a".to_owned(), "a".to_owned()));
    one.increments.insert("counter".to_owned(), 2);
    one.words.insert("text".to_owned(), vec!["1.1".to_owned()]);
    let mut two = Promised::default();
    two.increments.insert("counter".to_owned(), 1);
    two.words.insert("text".to_owned(), vec!["2.1".to_owned(), "2.2".to_owned()]);
    one.add(two);
    one
}

#[test]
fn every_kind_of_lost_write_is_counted() {
    let rows: [(&[(&str, &str)], u64); 7] = [
        (&[("once-a", "a"), ("counter", "3"), ("text", "1.1;2.1;2.2;")], 0),
        // Uncertain ones that were applied are no loss.
        (&[("once-a", "a"), ("counter", "5"), ("text", "9.9;2.1;1.1;2.2;")], 0),
        (&[("once-a", "other"), ("counter", "3"), ("text", "1.1;2.1;2.2;")], 1),
        (&[("counter", "3"), ("text", "1.1;2.1;2.2;")], 1),
        (&[("once-a", "a"), ("counter", "1"), ("text", "1.1;2.1;2.2;")], 2),
        // A word is no other word's beginning.
        (&[("once-a", "a"), ("counter", "3"), ("text", "1.11;2.1;2.2;")], 1),
        (&[], 1 + 3 + 3),
    ];
    for (pairs, lost) in rows {
        assert_eq!(promised().lost(&found(pairs)), lost, "{pairs:?}");
    }
}

#[test]
fn steps_are_recorded_with_their_outcome() {
    let mut recorded = Recorded::default();
    let append = || Step::new("text".to_owned(), Call::Append("w;".into()), "APPEND", Some("w;"));
    let rows: [(Result<Value, ClientError>, Outcome, Told); 4] = [
        (Ok(Value::Integer(2)), Outcome::Applied, Told::Ok(Answer::Integer(2))),
        (Ok(Value::error("TRYAGAIN", "OVERLOADED")), Outcome::NotApplied, Told::Failed),
        (Ok(Value::error("UNCERTAIN", "x")), Outcome::Uncertain, Told::Unknown),
        (Err(ClientError::TimedOut), Outcome::Uncertain, Told::Unknown),
    ];
    for (result, outcome, told) in rows {
        assert_eq!(recorded.take(7, append(), 1_000, 4_000, &result), outcome, "{result:?}");
        assert_eq!(recorded.operations.last().map(|operation| operation.outcome.clone()), Some(told));
    }
    assert_eq!((recorded.latencies_us, recorded.writes_ns), (vec![3], vec![4_000]));
    assert_eq!(recorded.promised.words["text"], ["w"], "only what was acknowledged is promised");
}

#[test]
fn an_answer_of_the_wrong_shape_is_not_taken_for_a_right_one() {
    let ok = Value::ok();
    assert_eq!(answer(&Call::Write(Kept::Nil), &ok), Answer::Nothing);
    assert_eq!(answer(&Call::Read, &Value::Null), Answer::Value(Kept::Nil));
    assert_ne!(answer(&Call::Read, &ok), Answer::Nothing);
    assert_ne!(answer(&Call::Add(1), &ok), Answer::Nothing);
    assert_ne!(answer(&Call::Write(Kept::Nil), &Value::Null), Answer::Nothing);
}

#[test]
fn the_longest_gap_is_taken_around_the_kill() {
    let mut writes = [10, 500, 20, 30, 90, 100];
    assert_eq!(longest_gap_ns(&mut writes, 35, 550), 400);
    assert_eq!(longest_gap_ns(&mut writes, 501, 550), 50);
    assert_eq!(longest_gap_ns(&mut [10, 90, 100], 15, 110), 80);
    // Writes that never came back are no gap of nothing.
    assert_eq!(longest_gap_ns(&mut [10, 20], 25, 3_000), 2_980);
    assert_eq!(longest_gap_ns(&mut [], 0, 15), 15);
}

#[test]
fn quantiles_are_values_that_occurred() {
    let mut values: Vec<u64> = (1..=100).rev().collect();
    assert_eq!(
        (quantile(&mut values, 0.5), quantile(&mut values, 0.99), quantile(&mut values, 1.0)),
        (50, 99, 100)
    );
    assert_eq!((quantile(&mut [7], 0.5), quantile(&mut [], 0.5)), (7, 0));
}
