//! Tables: two clocks in, what they say about each other out.

extern crate std;

use std::format;
use std::string::String;
use std::vec::Vec;

use super::dot;
use crate::clock::{DotContext, HybridClock, HybridStamp, LamportClock, ReplicaId, VectorClock};

/// `1:3 2:1` is a clock that has seen three events of 1 and one of 2.
fn vector(text: &str) -> VectorClock {
    let entry = |word: &str| {
        let (replica, count) = word.split_once(':').expect("replica:count");
        (ReplicaId(replica.parse().expect("a number")), count.parse().expect("a number"))
    };
    text.split_whitespace().map(entry).collect()
}

/// `1.3 1.5` is a set of two dots.
fn context(text: &str) -> DotContext {
    let entry = |word: &str| {
        let (replica, counter) = word.split_once('.').expect("replica.counter");
        dot(replica.parse().expect("a number"), counter.parse().expect("a number"))
    };
    text.split_whitespace().map(entry).collect()
}

#[test]
fn vector_clocks_compared() {
    for (left, right, expected, merged, met) in [
        ("", "", "Equal", "{}", "{}"),
        ("1:1", "", "After", "{1:1}", "{}"),
        ("1:1", "1:2", "Before", "{1:2}", "{1:1}"),
        ("1:1", "2:1", "Concurrent", "{1:1 2:1}", "{}"),
        ("1:2 2:1", "1:1 2:1", "After", "{1:2 2:1}", "{1:1 2:1}"),
        ("1:2 2:1", "1:1 2:2", "Concurrent", "{1:2 2:2}", "{1:1 2:1}"),
        ("2:4", "1:1 2:4 3:1", "Before", "{1:1 2:4 3:1}", "{2:4}"),
        ("1:0 2:4", "2:4", "Equal", "{2:4}", "{2:4}"),
    ] {
        let (a, b) = (vector(left), vector(right));
        let mut both = a.clone();
        both.merge(&b);
        let got = (format!("{:?}", a.compare(&b)), format!("{both}"), format!("{}", a.meet(&b)));
        assert_eq!(got, (expected.into(), merged.into(), met.into()), "{left} with {right}");
    }
}

#[test]
fn contexts_drawn() {
    for (dots, drawn, vector, spans) in [
        ("", "{}", "{}", 0),
        ("1.1", "{1:1}", "{1:1}", 1),
        ("1.2", "{1:2}", "{}", 1),
        ("1.1 1.3", "{1:1 1:3}", "{1:1}", 2),
        ("1.3 1.1 1.2", "{1:1..3}", "{1:3}", 1),
        ("1.5 1.4 1.2 1.1", "{1:1..2 1:4..5}", "{1:2}", 2),
        ("2.1 1.9 2.2 1.8", "{1:8..9 2:1..2}", "{2:2}", 2),
    ] {
        let context = context(dots);
        let got = (format!("{context}"), format!("{}", context.vector()), context.span_count());
        assert_eq!(got, (drawn.into(), vector.into(), spans), "{dots}");
    }
}

#[test]
fn contexts_taken_apart() {
    for (left, right, union, difference, intersection) in [
        ("1.1 1.2", "1.2 1.3", "{1:1..3}", "{1:1}", "{1:2}"),
        ("1.1 1.2 1.3", "1.2", "{1:1..3}", "{1:1 1:3}", "{1:2}"),
        ("1.1 2.1", "3.1", "{1:1 2:1 3:1}", "{1:1 2:1}", "{}"),
        ("", "1.1 1.2", "{1:1..2}", "{}", "{}"),
        ("1.1 1.2 1.5 1.6", "1.2 1.3 1.4 1.5", "{1:1..6}", "{1:1 1:6}", "{1:2 1:5}"),
    ] {
        let (a, b) = (context(left), context(right));
        let got = [a.union(&b), a.difference(&b), a.intersection(&b)].map(|set| format!("{set}"));
        assert_eq!(got, [union, difference, intersection], "{left} with {right}");
    }
}

/// Figure 1 of the paper on hybrid clocks tells such a story: a message from a clock that is ahead, and the way back to the wall.
#[test]
fn a_hybrid_clock_catches_up() {
    let mut clock = HybridClock::new(100);
    let mut told = Vec::new();
    let mut tell = |what: &str, stamp: HybridStamp| told.push(format!("{what} {stamp}"));
    tell("event at 10", clock.now(10));
    tell("event at 10", clock.now(10));
    clock.observe(HybridStamp { wall_ms: 14, count: 6 }, 11).expect("within the bound");
    tell("heard 14+6 at 11", clock.now(11));
    tell("event at 9", clock.now(9));
    tell("event at 15", clock.now(15));
    let expected = [
        "event at 10 10+0",
        "event at 10 10+1",
        "heard 14+6 at 11 14+7",
        "event at 9 14+8",
        "event at 15 15+0",
    ];
    assert_eq!(told, expected.map(String::from));
}

#[test]
fn a_lamport_clock_jumps_ahead() {
    let mut clock = LamportClock::new();
    let times =
        [clock.tick(), clock.observe(7).expect("small"), clock.observe(2).expect("small"), clock.tick()];
    assert_eq!(times, [1, 8, 9, 10]);
    assert!(clock.observe(u64::MAX).is_err());
    assert_eq!(clock.time(), 10, "a refusal changes nothing");
    let (low, high) = (LamportClock::resume(4).stamp(ReplicaId(9)), clock.stamp(ReplicaId(1)));
    assert!(low < high && LamportClock::resume(10).stamp(ReplicaId(2)) > high);
}
