//! How a life of a sender comes to its session, when what it knows of the log is old; and what a leader keeps of what came too early.

use super::super::sessions::Session;
use super::*;

const LEADER: NodeId = NodeId(1);

/// A sender with one message that waits.
fn who_waits() -> Sender {
    let mut sender = Sender::new(ME, 5);
    sender.push(RequestId(1), Bytes::from_static(b"a"));
    sender
}

/// The one item that it submits now, as the log will deliver it.
fn submitted(sender: &mut Sender, sessions: &Sessions) -> Item {
    let present = sessions.get(ME).map_or(0, |known| known.session);
    let batches = sender.due(LEADER, present, 1_000);
    sender.assert_invariants(1_000);
    let [item] = &batches.concat()[..] else { panic!("one item is due: {batches:?}") };
    Item::decode(item.clone()).expect("the sender's own")
}

/// The log delivers a request to open; whether the session is open then.
fn delivered(sender: &mut Sender, sessions: &mut Sessions, item: &Item) -> bool {
    let Item::Open { node, session, after } = *item else { panic!("no request to open: {item:?}") };
    let is_open = sessions.open(node, session, after);
    if sender.is_session(node, session) {
        sender.decided(is_open, sessions.get(node));
    }
    is_open
}

/// A life asks before it has heard of the session before it, twice, and asks again at each refusal (seed 22434 of scenario `total`). Did it give
/// itself a new name for each, it would bear another one already when a request comes to be open.
#[test]
fn a_life_asks_again_by_the_same_name() {
    let (mut sender, mut sessions) = (who_waits(), Sessions::default());
    let early = submitted(&mut sender, &sessions);
    assert!(sessions.open(ME, 11, 0), "the life before");
    assert!(!delivered(&mut sender, &mut sessions, &early));
    let right = submitted(&mut sender, &sessions);
    // The early one was submitted twice.
    assert!(!delivered(&mut sender, &mut sessions, &early));
    let again = submitted(&mut sender, &sessions);
    assert!(delivered(&mut sender, &mut sessions, &right) && delivered(&mut sender, &mut sessions, &again));
    let Item::Message { session, counter, .. } = submitted(&mut sender, &sessions) else {
        panic!("the session is open")
    };
    assert_eq!((Some(Session { session, count: 0 }), counter), (sessions.get(ME), 1));
}

/// A snapshot brings a table in which the life's own request is open: no delivery will tell the life (seed 40323 of scenario `total`).
#[test]
fn a_request_that_was_passed_over_opens_the_session() {
    let (mut sender, sessions) = (who_waits(), Sessions::default());
    let Item::Open { session, .. } = submitted(&mut sender, &sessions) else { panic!("it asks first") };
    assert_eq!(sender.passed_over(Some(Session { session: 11, count: 4 })), [], "of the life before");
    assert_eq!(sender.passed_over(Some(Session { session, count: 4 })), [], "what waits was not submitted");
    let Item::Message { session: of, counter, .. } = submitted(&mut sender, &sessions) else {
        panic!("the session is open")
    };
    assert_eq!((of, counter), (session, 5));
}

/// A leader has room for three messages that came before their turn. What stood in the log meanwhile, and what an older life left, gives it back.
#[test]
fn what_waits_in_vain_gives_up_its_room() {
    let mut sessions = Sessions::default();
    let mut admission = Admission::new(3);
    let item = Bytes::from_static(b"item");
    assert!(sessions.open(ME, 11, 0));
    for counter in [3, 4] {
        assert_eq!(admission.judge(&sessions, (ME, 11, counter), &item), Admitted::Early);
    }
    // All four come by another leader, and the next life begins.
    (1..=4).for_each(|counter| assert_eq!(sessions.take(ME, 11, counter), Verdict::Next));
    assert!(sessions.open(ME, 22, 11));
    assert_eq!(admission.judge(&sessions, (ME, 22, 5), &item), Admitted::Next);
    admission.proposed(ME, 22, 5);
    assert_eq!(admission.take_next(&sessions, ME, 22), None);
    for counter in [7, 8, 9] {
        assert_eq!(admission.judge(&sessions, (ME, 22, counter), &item), Admitted::Early);
    }
    assert_eq!(admission.judge(&sessions, (ME, 22, 6), &item), Admitted::Next);
    admission.proposed(ME, 22, 6);
    for counter in [7, 8, 9] {
        assert_eq!(admission.take_next(&sessions, ME, 22), Some((counter, item.clone())));
        admission.proposed(ME, 22, counter);
    }
}
