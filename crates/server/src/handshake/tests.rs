//! Guards against: a stranger let in, a proof that works in the other direction or a second time, bytes that panic.

use keypact_node::Member;

use super::*;

fn credentials(node: u64) -> Credentials {
    Credentials {
        cluster: [7; 16],
        node: NodeId(node),
        incarnation: Incarnation(node),
        secret: [9; 32],
        roster: RefCell::new(Roster::of((1..=3).map(|id| member(id, id)).collect())),
    }
}

fn member(id: u64, incarnation: u64) -> Member {
    let address = format!("n{id}:1");
    Member { id, incarnation, resp: address.clone(), peer: address.clone(), http: address }
}

type Both = (Result<(), Failed>, Result<(NodeId, Traffic), Failed>);

/// Node 1 dials node 2 for bulk.
fn shake(dialler: &Credentials, acceptor: &Credentials) -> Both {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let (mut a, mut b) = tokio::io::duplex(1024);
        let dialling = async {
            let result = dial(&mut a, dialler, (NodeId(2), Traffic::Bulk), [1; 32]).await;
            drop(a);
            result
        };
        let accepting = async {
            let result = accept(&mut b, acceptor, [2; 32]).await;
            drop(b);
            result
        };
        tokio::join!(dialling, accepting)
    })
}

fn cut<T>(result: Result<T, Failed>) -> Option<Cut> {
    match result {
        Err(Failed::Cut(cut)) => Some(cut),
        _ => None,
    }
}

#[test]
fn members_of_one_cluster_find_each_other() {
    let (dialled, accepted) = shake(&credentials(1), &credentials(2));
    dialled.expect("the acceptor knows the secret");
    assert_eq!(accepted.expect("so does the dialler"), (NodeId(1), Traffic::Bulk));
}

#[test]
fn each_difference_is_refused_for_its_reason() {
    type Change = fn(&mut Credentials);
    let table: [(Change, Change, Cut, Option<Cut>); 7] = [
        // What the dialler has wrong, what the acceptor has wrong; what the acceptor says, what the dialler says.
        (|c| c.secret[31] ^= 1, |_| {}, Cut::Secret, Some(Cut::Refused)),
        (|_| {}, |c| c.secret[0] ^= 1, Cut::Secret, Some(Cut::Refused)),
        (|c| c.cluster[0] ^= 1, |_| {}, Cut::Cluster, Some(Cut::Refused)),
        (|_| {}, |c| assert!(c.roster.get_mut().admit(&member(1, 8))), Cut::Incarnation, Some(Cut::Refused)),
        (
            |_| {},
            |c| assert!(c.roster.get_mut().dismiss(NodeId(1), Incarnation(1))),
            Cut::Incarnation,
            Some(Cut::Refused),
        ),
        (|c| c.node = NodeId(4), |_| {}, Cut::Stranger, Some(Cut::Refused)),
        (|c| c.node = NodeId(2), |_| {}, Cut::Stranger, Some(Cut::Refused)),
    ];
    for (at, (of_dialler, of_acceptor, accepts, dials)) in table.into_iter().enumerate() {
        let (mut dialler, mut acceptor) = (credentials(1), credentials(2));
        of_dialler(&mut dialler);
        of_acceptor(&mut acceptor);
        let (dialled, accepted) = shake(&dialler, &acceptor);
        assert_eq!(cut(accepted), Some(accepts), "row {at}");
        assert_eq!(cut(dialled), dials, "row {at}");
    }
}

/// Guards the way back of a node whose folder was lost: its peers know its earlier life only.
#[test]
fn a_later_life_is_heard() {
    let mut dialler = credentials(1);
    dialler.incarnation = Incarnation(8);
    let (dialled, accepted) = shake(&dialler, &credentials(2));
    dialled.expect("the acceptor knows the secret");
    assert_eq!(accepted.expect("so does the dialler"), (NodeId(1), Traffic::Bulk));
}

#[test]
fn a_dialler_takes_only_whom_it_dialled() {
    let (dialled, _) = shake(&credentials(1), &credentials(3));
    assert_eq!(cut(dialled), Some(Cut::Stranger));
}

#[test]
fn an_echo_of_our_own_words_proves_nothing() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let me = credentials(2);
        let (mut a, mut b) = tokio::io::duplex(1024);
        let mirror = async {
            // As a dialler: a good hello, then the acceptor's hello's length of anything, then its own bytes back.
            let hello = credentials(1).hello(Traffic::Control, [5; 32]).encode();
            write_frame(&mut a, &hello).await.expect("there is room");
            let (_, theirs) = read_hello(&mut a).await.expect("the acceptor answers");
            let reflected = me.mac(ACCEPTOR, &hello, &theirs).finalize().into_bytes();
            write_frame(&mut a, &reflected).await.expect("there is room");
            let _ = a.read_u32_le().await;
        };
        let (_, accepted) = tokio::join!(mirror, accept(&mut b, &me, [2; 32]));
        assert_eq!(cut(accepted), Some(Cut::Secret), "the acceptor's own proof is not the dialler's");
    });
}

#[test]
fn strange_bytes_are_refused_without_a_panic() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let good = {
        let mut frame = (HELLO_BYTES as u32).to_le_bytes().to_vec();
        frame.extend_from_slice(&credentials(1).hello(Traffic::Control, [5; 32]).encode());
        frame
    };
    for length in 0..good.len() {
        let mut bytes = good[..length].to_vec();
        if length > 4 {
            bytes[length - 1] ^= 0x55;
        }
        let result = runtime.block_on(async {
            let (mut a, mut b) = tokio::io::duplex(1024);
            a.write_all(&bytes).await.expect("there is room");
            drop(a);
            accept(&mut b, &credentials(2), [2; 32]).await
        });
        assert!(result.is_err(), "{length} bytes");
    }
}

#[test]
fn hello_comes_back_as_it_went() {
    let hello = Hello {
        versions: (1, 3),
        features: 1 << 40,
        cluster: [3; 16],
        node: NodeId(5),
        incarnation: Incarnation(6),
        traffic: Traffic::Bulk,
        nonce: [8; 32],
    };
    assert_eq!(Hello::decode(&hello.encode()), Some(hello));
}
