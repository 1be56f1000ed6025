//! Each property has a history that breaks it and nothing else, and its repaired twin.

use super::{DeliveryOrder, check_delivery, read_delivery, write_delivery};

/// `1+a` process 1 broadcasts a; `2a` process 2 delivers a; `2!` crash; `2^` start; `3-1:2` process 3 skips two of process 1; `.` rest.
fn history(short: &str) -> super::DeliveryHistory {
    let mut lines = String::new();
    for word in short.split_whitespace() {
        if word == "." {
            lines.push_str("{\"type\":\"rest\"}\n");
            continue;
        }
        let (process, rest) = word.split_at(1);
        let what = match rest.split_at(1) {
            ("+", message) => format!("\"broadcast\",\"message\":\"{message}\""),
            ("!", _) => "\"crash\"".into(),
            ("^", _) => "\"start\"".into(),
            ("-", skip) => {
                let (of, upto) = skip.split_once(':').expect("of:upto");
                format!("\"skip\",\"of\":{of},\"upto\":{upto}")
            }
            _ => format!("\"deliver\",\"message\":\"{rest}\""),
        };
        lines.push_str(&format!("{{\"process\":{process},\"type\":{what}}}\n"));
    }
    read_delivery(&lines).expect("a readable history")
}

/// The property that does not hold, or "".
fn broken(short: &str, order: DeliveryOrder) -> &'static str {
    let history = history(short);
    let again = read_delivery(&write_delivery(&history)).expect("we read what we write");
    let verdict = check_delivery(&history, order);
    let property = |verdict: &Result<(), super::DeliveryViolation>| match verdict {
        Ok(()) => "",
        Err(violation) => violation.property,
    };
    assert_eq!(
        property(&verdict),
        property(&check_delivery(&again, order)),
        "{short}: written and read again"
    );
    property(&verdict)
}

#[test]
fn each_property_is_broken_alone() {
    use DeliveryOrder::{Causal, Fifo, Total};
    let table = [
        ("1+a 1a 2a .", Fifo, ""),
        ("2a", Fifo, "validity"),
        ("1+a 1a 1a", Fifo, "no-duplication"),
        ("1+a 1+b 1a 1b 2b 2a", Fifo, "fifo"),
        ("1+a 1+b 1a 1b 2b", Fifo, "fifo"),
        ("1+a 1+b 1a 1b 2-1:1 2b .", Fifo, ""),
        ("1+a 1+b 1a 1b 2-1:1 2a 2b", Fifo, "fifo"),
        // The answer before its question.
        ("1+a 1a 2a 2+b 2b 1b 3b 3a", Fifo, ""),
        ("1+a 1a 2a 2+b 2b 1b 3b 3a", Causal, "causal"),
        ("1+a 1a 2a 2+b 2b 1b 3a 3b .", Causal, ""),
        // Over two steps: c comes after a only through b.
        ("1+a 1a 2a 2+b 2b 3-1:1 3b 3+c 3c 4c", Causal, "causal"),
        ("1+a 1a 2+b 2b 2a 1b 3b 3a", Causal, ""),
        ("1b 1+a 1a 2a 2+b 2b", Causal, "causal"),
        // Concurrent messages in two orders.
        ("1+a 1a 1b 2+b 2b 2a", Total, "total"),
        ("1+a 1a 1b 2+b 2a 2b .", Total, ""),
        // Total order does not say FIFO.
        ("1+a 1+b 1b 1a 2b 2a .", Total, ""),
        ("1+a 1a 2+b 2b 3a 3b 1b", Total, ""),
        ("1+a 1a 2+b 2b .", Total, "agreement"),
        ("1+a 2a .", Fifo, "validity"),
        ("1+a 1a 2! .", Fifo, ""),
        ("1+a 1a 2+b 2b 1b 2! .", Fifo, ""),
        ("1+a 1a 2+b 2b 1b 2! 2^ .", Fifo, "agreement"),
        ("1+a 1a 2-1:1 .", Fifo, ""),
        ("1+a 1a 2^", Fifo, ""),
    ];
    for (short, order, property) in table {
        assert_eq!(broken(short, order), property, "{short}, {}", order.name());
    }
}

#[test]
fn a_witness_names_the_steps() {
    let history = history("1+a 1a 2a 2+b 2b 3-1:0 3b");
    let violation = check_delivery(&history, DeliveryOrder::Causal).expect_err("b comes after a");
    assert_eq!(
        violation.witness,
        "process 3 delivers \"b\" (broadcast 1 of process 2, line 4), line 7 before broadcast 1 of process 1: \
         process 2 delivered \"a\", line 3 before it broadcast \"b\""
    );
}

#[test]
fn malformed_lines_are_named() {
    let table = [
        ("{\"type\":\"deliver\",\"message\":\"a\"}", "missing process"),
        ("{\"process\":1,\"type\":\"shout\"}", "unknown event type"),
        ("{\"process\":1,\"type\":\"deliver\",\"massage\":\"a\"}", "unknown field"),
        ("{\"process\":-1,\"type\":\"crash\"}", "is not a whole number"),
        (
            "{\"process\":1,\"type\":\"broadcast\",\"message\":\"a\"}\n{\"process\":2,\"type\":\"broadcast\",\"message\":\"a\"}",
            "broadcast before",
        ),
        ("[]", "not JSON"),
    ];
    for (text, what) in table {
        let error = read_delivery(text).expect_err(text).to_string();
        assert!(error.contains(what), "{text}: {error}");
    }
}

/// Against a brute force over pairs and triples, on small random histories.
#[test]
fn agrees_with_the_definitions() {
    let mut state = 7_u64;
    let mut draw = move |bound: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % bound
    };
    let mut seen = [0; 4];
    for _ in 0..3_000 {
        let mut history = super::DeliveryHistory::new();
        let mut sent: Vec<String> = Vec::new();
        for _ in 0..10 {
            let process = 1 + draw(3);
            history.process(process);
            if draw(3) == 0 && sent.len() < 5 {
                let name = format!("m{}", sent.len());
                history.broadcast(process, &name, 0).expect("a fresh name");
                sent.push(name);
            } else if !sent.is_empty() {
                let name = sent[draw(sent.len() as u64) as usize].clone();
                let events = history.processes[&process].clone();
                let id = history.names.iter().position(|known| *known == name).expect("it was sent");
                if !events.iter().any(|placed| placed.event == super::DeliveryEvent::Deliver(id)) {
                    history.deliver(process, &name, 0);
                }
            }
        }
        for (place, order) in DeliveryOrder::ALL.into_iter().enumerate() {
            let verdict = check_delivery(&history, order).is_ok();
            assert_eq!(
                verdict,
                oracle::holds(&history, order),
                "{}\n{}",
                order.name(),
                write_delivery(&history)
            );
            seen[place] += usize::from(verdict);
        }
        seen[3] += 1;
    }
    assert!(seen.iter().all(|count| *count > 100), "both verdicts are met often: {seen:?}");
}

mod oracle {
    //! The definitions, word by word.

    use std::collections::BTreeSet;

    use super::super::{DeliveryEvent, DeliveryHistory, DeliveryOrder, MessageId};

    fn place(history: &DeliveryHistory, process: u64, event: DeliveryEvent) -> Option<usize> {
        history.processes[&process].iter().position(|placed| placed.event == event)
    }

    /// Every pair of messages of which the first comes before the second.
    fn before(history: &DeliveryHistory, causal: bool) -> BTreeSet<(MessageId, MessageId)> {
        let count = history.names.len();
        let mut pairs = BTreeSet::new();
        for (process, events) in &history.processes {
            for (second_place, second) in events.iter().enumerate() {
                let DeliveryEvent::Broadcast(second) = second.event else { continue };
                for first in 0..count {
                    let own = place(history, *process, DeliveryEvent::Broadcast(first));
                    let heard = place(history, *process, DeliveryEvent::Deliver(first)).filter(|_| causal);
                    if [own, heard].into_iter().flatten().any(|place| place < second_place) {
                        pairs.insert((first, second));
                    }
                }
            }
        }
        for middle in 0..count {
            for first in 0..count {
                for last in 0..count {
                    if pairs.contains(&(first, middle)) && pairs.contains(&(middle, last)) {
                        pairs.insert((first, last));
                    }
                }
            }
        }
        pairs
    }

    pub(super) fn holds(history: &DeliveryHistory, order: DeliveryOrder) -> bool {
        let processes: Vec<u64> = history.processes.keys().copied().collect();
        let delivered = |process: u64, id: MessageId| place(history, process, DeliveryEvent::Deliver(id));
        match order {
            DeliveryOrder::Fifo | DeliveryOrder::Causal => {
                let pairs = before(history, order == DeliveryOrder::Causal);
                if pairs.iter().any(|(first, last)| first == last) {
                    return false;
                }
                let waits = |process: u64, first: MessageId, last: MessageId| match delivered(process, last) {
                    None => true,
                    Some(last) => delivered(process, first).is_some_and(|first| first < last),
                };
                processes.iter().all(|process| pairs.iter().all(|(a, b)| waits(*process, *a, *b)))
                    && no_circle(history, order)
            }
            DeliveryOrder::Total => {
                let ids = 0..history.names.len();
                let pairs = ids.clone().flat_map(|a| ids.clone().map(move |b| (a, b)));
                let agree = |p: u64, q: u64, a: MessageId, b: MessageId| match (
                    delivered(p, a),
                    delivered(p, b),
                    delivered(q, a),
                    delivered(q, b),
                ) {
                    (Some(pa), Some(pb), Some(qa), Some(qb)) => (pa < pb) == (qa < qb),
                    _ => true,
                };
                pairs
                    .into_iter()
                    .all(|(a, b)| processes.iter().all(|p| processes.iter().all(|q| agree(*p, *q, a, b))))
            }
        }
    }

    /// A process that delivers its own message before it broadcasts it.
    fn no_circle(history: &DeliveryHistory, order: DeliveryOrder) -> bool {
        order == DeliveryOrder::Fifo
            || (0..history.names.len()).all(|id| {
                history.processes.keys().all(|process| {
                    let sent = place(history, *process, DeliveryEvent::Broadcast(id));
                    let heard = place(history, *process, DeliveryEvent::Deliver(id));
                    sent.zip(heard).is_none_or(|(sent, heard)| sent < heard)
                })
            })
    }
}
