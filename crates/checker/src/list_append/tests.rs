//! Each anomaly from a history written by hand, each next to one that is right; and random histories against a serial run.

use proptest::prelude::*;

use super::*;

/// A history from lines `P invoke|ok|fail|info OPS`, with operations as `append x 1` and `r x 1 2` or `r x ?`, separated by `;`.
fn history(text: &str) -> Vec<ListTransaction> {
    let line = |line: &str| {
        let (process, rest) = line.trim().split_once(' ').expect("process and the rest");
        let (kind, operations) = rest.split_once(' ').unwrap_or((rest, ""));
        let operations: Vec<String> = operations
            .split(';')
            .filter(|operation| !operation.trim().is_empty())
            .map(|operation| {
                let words: Vec<&str> = operation.split_whitespace().collect();
                match words.as_slice() {
                    ["append", key, element] => format!("[:append {key} {element}]"),
                    ["r", key, "?"] => format!("[:r {key} nil]"),
                    ["r", key, list @ ..] => format!("[:r {key} [{}]]", list.join(" ")),
                    other => panic!("{other:?}"),
                }
            })
            .collect();
        let value =
            if operations.is_empty() { "nil".to_owned() } else { format!("[{}]", operations.join(" ")) };
        format!("{{:process {process}, :type :{kind}, :f :txn, :value {value}}}\n")
    };
    let edn: String = text.lines().filter(|text| !text.trim().is_empty()).map(line).collect();
    read_list_text(&edn).unwrap().1
}

/// Transactions at the same time, each of its own process, that committed with these operations.
fn concurrent(transactions: &[&str]) -> Vec<ListTransaction> {
    let asked = |text: &str| {
        let operation = |operation: &str| {
            let words: Vec<&str> = operation.split_whitespace().collect();
            if words[0] == "r" { format!("r {} ?", words[1]) } else { operation.trim().to_owned() }
        };
        text.split(';').map(operation).collect::<Vec<_>>().join(";")
    };
    let mut text = String::new();
    for (process, transaction) in transactions.iter().enumerate() {
        text.push_str(&format!("{process} invoke {}\n", asked(transaction)));
    }
    for (process, transaction) in transactions.iter().enumerate() {
        text.push_str(&format!("{process} ok {transaction}\n"));
    }
    history(&text)
}

fn names(transactions: &[ListTransaction]) -> Vec<&'static str> {
    let mut names: Vec<_> = check_list(transactions).unwrap().anomalies.iter().map(|a| a.name).collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[test]
fn each_anomaly_has_its_name() {
    let cases: [(&str, &[&str]); 12] = [
        ("G0", &["append x 1; append y 1", "append x 2; append y 2", "r x 1 2", "r y 2 1"]),
        ("G1c", &["append x 1; r y 2", "append y 2; r x 1"]),
        ("G-single", &["append x 1; append y 1", "r x 1; r y"]),
        ("G-single", &["r x; append x 1", "r x; append x 2", "r x 1 2"]),
        ("G2-item", &["r x; append y 1", "r y; append x 1", "r x 1", "r y 1"]),
        ("G-nonadjacent", &["append x 1", "r x 1; r y", "append y 2", "r y 2; r x", "r x 1", "r y 2"]),
        ("internal", &["append x 1; r x"]),
        ("internal", &["r x; r x 1", "append x 1"]),
        ("G1b", &["append x 1; append x 2", "r x 1", "r x 1 2"]),
        ("duplicate-elements", &["append x 1", "r x 1 1"]),
        ("unwritten-read", &["r x 7"]),
        ("incompatible-order", &["append x 1", "append x 2", "r x 1", "r x 2"]),
    ];
    for (name, transactions) in cases {
        let found = names(&concurrent(transactions));
        assert!(found.contains(&name), "{name}: {found:?} in {transactions:?}");
    }
}

#[test]
fn right_histories_have_none() {
    let cases: [&[&str]; 6] = [
        &["append x 1; append y 1", "r x 1; r y 1", "r x; r y"],
        &["append x 1", "append x 2; r x 1 2", "r x 1"],
        &["r x; append y 1", "r y 1; append x 1", "r x 1"],
        &["append x 1; append x 2", "r x 1 2"],
        &["r x; append x 1; r x 1", "r x 1; append x 2; r x 1 2"],
        &[],
    ];
    for transactions in cases {
        assert_eq!(names(&concurrent(transactions)), [""; 0], "{transactions:?}");
    }
}

#[test]
fn what_was_not_applied_may_not_be_seen() {
    let seen = history("0 invoke append x 1\n0 fail\n1 invoke r x ?\n1 ok r x 1");
    assert_eq!(names(&seen), ["G1a"]);
    let updated = history(
        "0 invoke append x 1\n0 fail\n1 invoke append x 2\n1 ok append x 2\n2 invoke r x ?\n2 ok r x 1 2",
    );
    assert_eq!(names(&updated), ["G1a", "dirty-update"]);
    let unknown = history("0 invoke append x 1\n0 info\n1 invoke r x ?\n1 ok r x 1");
    assert_eq!(names(&unknown), [""; 0]);
    let never = history("0 invoke append x 1\n0 info\n1 invoke r x ?\n1 ok r x");
    assert_eq!(names(&never), [""; 0], "an unknown outcome owes nothing");
    let torn = history("0 invoke append x 1; append y 1\n0 info\n1 invoke r x ?; r y ?\n1 ok r x 1; r y");
    assert_eq!(names(&torn), ["G-single"], "but seen in part it must be there in whole");
}

#[test]
fn real_time_counts() {
    let cases = [
        (
            "G0-realtime",
            "0 invoke append x 1\n0 ok append x 1\n1 invoke append x 2\n1 ok append x 2\n2 invoke r x ?\n2 ok r x 2 1",
        ),
        ("G1c-realtime", "0 invoke r x ?\n0 ok r x 1\n1 invoke append x 1\n1 ok append x 1"),
        ("G-single-realtime", "0 invoke append x 1\n0 ok append x 1\n1 invoke r x ?\n1 ok r x"),
        (
            "G2-item-realtime",
            "0 invoke append x 1; r y ?\n0 ok append x 1; r y\n1 invoke append y 1\n1 ok append y 1\n\
             2 invoke r y ?; r x ?\n2 ok r y; r x 1",
        ),
    ];
    for (name, text) in &cases[..3] {
        assert_eq!(names(&history(text)), [*name], "{text}");
    }
    // The stale read of y alone is a cycle with one rw and real time.
    assert_eq!(names(&history(cases[3].1)), ["G-single-realtime"]);
    let overlapping = "0 invoke append x 1\n1 invoke r x ?\n0 ok append x 1\n1 ok r x";
    assert_eq!(names(&history(overlapping)), [""; 0], "at the same time either may be first");
}

#[test]
fn two_stale_readers_make_g2_with_real_time() {
    // Each read misses the other's write, and between the two pairs lies real time only.
    let text = "0 invoke r x ?; append a 1\n1 invoke r y ?; append b 1\n2 invoke append x 1\n3 invoke append y 1\n\
                0 ok r x; append a 1\n1 ok r y; append b 1\n\
                2 ok append x 1\n3 ok append y 1";
    assert_eq!(names(&history(text)), [""; 0]);
    let crossed = "5 invoke append x 1\n6 invoke append y 1\n1 invoke r x ?\n1 ok r x 1\n2 invoke r y ?\n2 ok r y\n\
                   3 invoke r y ?\n3 ok r y 1\n4 invoke r x ?\n4 ok r x\n5 ok append x 1\n6 ok append y 1";
    assert_eq!(names(&history(crossed)), ["G-single-realtime"]);
    let long_fork = "5 invoke append x 1\n6 invoke append y 1\n1 invoke r x ?; r y ?\n2 invoke r y ?; r x ?\n\
                     1 ok r x 1; r y\n2 ok r y 1; r x\n5 ok append x 1\n6 ok append y 1";
    assert_eq!(names(&history(long_fork)), ["G-nonadjacent"]);
}

#[test]
fn the_witness_is_a_cycle_that_can_be_followed() {
    let torn = concurrent(&["append x 1; append y 1", "r x 1; r y"]);
    let checked = check_list(&torn).unwrap();
    let [anomaly] = checked.anomalies.as_slice() else { panic!("{checked:?}") };
    assert_eq!(anomaly.transactions.len(), 2);
    for (at, edge) in anomaly.cycle.iter().enumerate() {
        assert_eq!(edge.to, anomaly.transactions[(at + 1) % anomaly.transactions.len()]);
    }
    let kinds: Vec<EdgeKind> = anomaly.cycle.iter().map(|edge| edge.kind).collect();
    assert_eq!(kinds, [EdgeKind::Rw, EdgeKind::Wr]);
    assert!(anomaly.text.contains("without the other one's 1"), "{}", anomaly.text);
}

#[test]
fn what_cant_be_judged_is_said() {
    let twice = concurrent(&["append x 1", "append x 1"]);
    assert_eq!(check_list(&twice).unwrap_err().element, "1");
    for text in [
        "{:process 0, :type :invoke, :f :txn}",
        "{:process 0, :type :invoke, :f :txn, :value [[:w 1 2]]}",
        "{:process 0, :type :invoke, :f :read, :value nil}",
        "{:process 0, :type :ok, :f :txn, :value []}",
        "{:process 0, :type :invoke, :f :txn, :value []} {:process 0, :type :ok, :f :txn, :value [[:r 1 []]]}",
        "{\"process\":0,\"type\":\"invoke\",\"op\":\"txn\",\"value\":[[\"append\",\"x\",1.5]]}",
        "{\"process\":0,\"type\":\"invoke\",\"op\":\"txn\"",
    ] {
        assert!(read_list_text(text).is_err(), "{text}");
    }
}

#[test]
fn both_formats_say_the_same() {
    let torn = concurrent(&["append x 1; append y 1", "r x 1; r y", "append x 5"]);
    let (_, again) = read_list_text(&write_list_jsonl(&torn)).unwrap();
    assert_eq!(again, torn);
}

/// Runs transactions one after the other; each is invoked before, and returns after, some of its neighbours.
fn serial_run(choices: &[(u8, u8, u8)]) -> Vec<ListTransaction> {
    let mut lists: std::collections::BTreeMap<u8, Vec<Value>> = std::collections::BTreeMap::new();
    let mut next = 0;
    let mut transactions = Vec::new();
    for (at, (keys, writes, spread)) in choices.iter().enumerate() {
        let mut operations = Vec::new();
        for bit in 0..4 {
            if keys & (1 << bit) == 0 {
                continue;
            }
            let list = lists.entry(bit).or_default();
            let key: Arc<str> = Arc::from(format!("k{bit}"));
            if writes & (1 << bit) != 0 {
                next += 1;
                list.push(Value::Integer(next));
                operations.push(MicroOperation::Append { key, element: Value::Integer(next) });
            } else {
                operations.push(MicroOperation::Read { key, list: Some(list.clone()) });
            }
        }
        // The moment of transaction n is 100 n; it is invoked up to 3 neighbours earlier and returns as much later.
        let middle = 1_000 + at as u64 * 100;
        let (before, after) = (u64::from(spread % 16) * 20, u64::from(spread / 16) * 20);
        let moment = |position| Moment { position, time_ns: None, line: 0 };
        transactions.push(ListTransaction {
            process: at as u64,
            operations,
            outcome: ListOutcome::Committed,
            invoked: moment((middle - before) * 1_000 + at as u64),
            returned: Some(moment((middle + after + 1) * 1_000 + at as u64)),
        });
    }
    transactions.sort_by_key(|transaction| transaction.invoked.position);
    transactions
}

proptest! {
    #[test]
    fn what_ran_serially_is_right(choices in prop::collection::vec(any::<(u8, u8, u8)>(), 0..60)) {
        prop_assert_eq!(names(&serial_run(&choices)), [""; 0]);
    }

    /// A read that loses its last element, of which the reader can't have been ahead in real time, is always found.
    #[test]
    fn a_stale_read_is_found(choices in prop::collection::vec(any::<(u8, u8, u8)>(), 1..40)) {
        let mut transactions = serial_run(&choices);
        let last = transactions.iter().map(|t| t.returned.unwrap().position).max().unwrap();
        let mut written: Vec<Value> = Vec::new();
        for transaction in &transactions {
            for operation in &transaction.operations {
                if let MicroOperation::Append { key, element } = operation && &**key == "k0" {
                    written.push(element.clone());
                }
            }
        }
        written.sort();
        prop_assume!(!written.is_empty());
        written.pop();
        transactions.push(ListTransaction {
            process: 1_000,
            operations: vec![MicroOperation::Read { key: Arc::from("k0"), list: Some(written) }],
            outcome: ListOutcome::Committed,
            invoked: Moment { position: last + 1, time_ns: None, line: 0 },
            returned: Some(Moment { position: last + 2, time_ns: None, line: 0 }),
        });
        prop_assert!(!names(&transactions).is_empty());
    }
}
