//! Which ports a cluster on one machine takes, and whether they are free.

use std::collections::BTreeMap;
use std::net::TcpListener;

use keypact_node::Member;

use crate::failure::Failure;
use crate::random;

/// Peers listen so far above the clients' port.
pub(crate) const PEER_OFFSET: u16 = 100;
/// The admin HTTP listens so far above the clients' port.
pub(crate) const HTTP_OFFSET: u16 = 200;
/// Most nodes of a cluster.
pub(crate) const NODES_MAX: u16 = 7;

/// Members on `host`, with clients' ports from `port` upwards.
///
/// # Errors
/// The ports would go beyond 65535.
pub(crate) fn members(host: &str, port: u16, nodes: u16) -> Result<Vec<Member>, Failure> {
    assert!((1..=NODES_MAX).contains(&nodes), "the command line allows 1 to {NODES_MAX} nodes");
    if port == 0 || port.checked_add(HTTP_OFFSET + nodes - 1).is_none() {
        return Err(Failure::cannot(format!(
            "--port {port}: a cluster of {nodes} takes ports up to {HTTP_OFFSET} above it, so it must be between 1 and {}",
            u16::MAX - HTTP_OFFSET - nodes + 1
        )));
    }
    Ok((0..nodes).map(|index| member(host, port + index, u64::from(index) + 1)).collect())
}

/// One member; the caller has checked that its ports fit.
pub(crate) fn member(host: &str, port: u16, id: u64) -> Member {
    assert!(port <= u16::MAX - HTTP_OFFSET, "a node's ports fit into 16 bits");
    Member {
        id,
        incarnation: 1,
        resp: format!("{host}:{port}"),
        peer: format!("{host}:{}", port + PEER_OFFSET),
        http: format!("{host}:{}", port + HTTP_OFFSET),
    }
}

/// Every address with who would listen there.
fn uses(members: &[Member]) -> impl Iterator<Item = (&str, String)> {
    members.iter().flat_map(|member| {
        [(&member.resp, "clients"), (&member.peer, "peers"), (&member.http, "admin HTTP")]
            .map(|(address, what)| (address.as_str(), format!("{what} of node {}", member.id)))
    })
}

/// Refuses members of which two would listen at one address.
pub(crate) fn check_distinct(members: &[Member]) -> Result<(), Failure> {
    let mut seen: BTreeMap<&str, String> = BTreeMap::new();
    for (address, what) in uses(members) {
        if let Some(other) = seen.get(address) {
            return Err(Failure::cannot(format!(
                "{address} would be used twice: for {other}, and for {what}"
            )));
        }
        seen.insert(address, what);
    }
    Ok(())
}

/// Refuses if any of the members' addresses can't be listened on, before anything was started. All are held at once, so that
/// two that clash are found too.
pub(crate) fn check_free(members: &[Member], what_to_do: &str) -> Result<(), Failure> {
    check_distinct(members)?;
    let mut held = Vec::with_capacity(members.len() * 3);
    for (address, what) in uses(members) {
        match TcpListener::bind(address) {
            Ok(listener) => held.push(listener),
            Err(error) => {
                let port = address.rsplit(':').next().unwrap_or(address);
                return Err(Failure::cannot(format!(
                    "port {port} ({address}, for the {what}) can't be used: {error}\n{what_to_do}"
                )));
            }
        }
    }
    assert_eq!(held.len(), members.len() * 3, "three addresses a node");
    Ok(())
}

/// Members on free ports of this machine, below those that systems hand out by themselves.
pub(crate) fn free_members(nodes: u16) -> Result<Vec<Member>, Failure> {
    const TRIES: usize = 50;
    for _ in 0..TRIES {
        let random =
            random::number().map_err(|error| Failure::cannot(format!("no random number: {error}")))?;
        let port = 12_000 + (random % 19_000) as u16;
        let members = members("127.0.0.1", port, nodes)?;
        if check_free(&members, "").is_ok() {
            return Ok(members);
        }
    }
    Err(Failure::cannot(format!("found no free ports in {TRIES} tries")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_follow_from_the_first() {
        let members = members("127.0.0.1", 7001, 3).unwrap();
        let last = &members[2];
        assert_eq!((last.id, last.resp.as_str()), (3, "127.0.0.1:7003"));
        assert_eq!((last.peer.as_str(), last.http.as_str()), ("127.0.0.1:7103", "127.0.0.1:7203"));
        check_distinct(&members).unwrap();
    }

    #[test]
    fn ports_must_fit() {
        assert!(members("127.0.0.1", 65_333, 3).is_ok());
        for port in [0, 65_334, 65_535] {
            let error = members("127.0.0.1", port, 3).unwrap_err();
            assert!(error.text.contains("between 1 and 65333"), "{}", error.text);
        }
    }

    #[test]
    fn two_uses_of_one_address_are_refused() {
        let clash = [member("a", 7001, 1), member("a", 7101, 2)];
        let error = check_distinct(&clash).unwrap_err();
        assert_eq!(error.text, "a:7101 would be used twice: for peers of node 1, and for clients of node 2");
    }

    #[test]
    fn a_taken_port_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut members = free_members(1).unwrap();
        members[0].peer = taken.local_addr().unwrap().to_string();
        let error = check_free(&members, "do something").unwrap_err();
        let port = taken.local_addr().unwrap().port();
        assert!(error.text.starts_with(&format!("port {port} (127.0.0.1:{port}, for the peers of node 1)")));
        assert!(error.text.ends_with("do something"));
        assert_eq!(error.code, 2);
    }
}
