//! Histories of broadcasts in files: which order finds what.

use std::path::{Path, PathBuf};

use keypact_checker::{CheckError, DeliveryOrder, check_delivery_file};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("histories").join(name)
}

/// The property that each order finds violated, in the order fifo, causal, total.
#[test]
fn each_order_finds_what_it_forbids() {
    let cases = [
        ("delivery-in-order.jsonl", [None, None, None]),
        ("delivery-answer-first.jsonl", [None, Some("causal"), Some("total")]),
        ("delivery-two-orders.jsonl", [None, None, Some("total")]),
        ("delivery-second-first.jsonl", [Some("fifo"), Some("fifo"), None]),
        ("delivery-one-lacks.jsonl", [Some("agreement"), Some("agreement"), Some("agreement")]),
    ];
    for (name, expected) in cases {
        for (order, property) in DeliveryOrder::ALL.into_iter().zip(expected) {
            let report = check_delivery_file(&file(name), order).expect("a history");
            let found = report.violation.as_ref().map(|violation| violation.property);
            assert_eq!(found, property, "{name} {}", order.name());
            assert_eq!((report.is_valid(), report.model), (property.is_none(), order.name()));
            assert!(report.at_rest && report.processes >= 2 && report.deliveries >= 1);
        }
    }
}

#[test]
fn a_file_that_is_no_such_history_is_refused() {
    let refused = |name: &str| check_delivery_file(&file(name), DeliveryOrder::Total).expect_err("refused");
    assert!(matches!(refused("no-such-file.jsonl"), CheckError::File { .. }));
    let error = refused("register-sequence.jsonl");
    assert!(matches!(error, CheckError::History(_)), "{error}");
    assert!(error.to_string().contains("register-sequence.jsonl:1"), "{error}");
}
