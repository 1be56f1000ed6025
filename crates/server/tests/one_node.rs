//! One node: clients' connections, restart, refusals at start, admin HTTP.

mod common;

use common::{Folder, TestNode, bulk, cluster, cluster_with, error_code, http, metric, settings, until};
use keypact_resp::Value;
use keypact_server::{ServeError, Shutdown, identity_of, run};
use keypact_storage::StorageError;

fn one(root: &Folder) -> TestNode {
    cluster(root, 1).pop().expect("one was made")
}

#[test]
fn serves_in_request_order_and_keeps_data_over_a_restart() {
    let root = Folder::new();
    let mut node = one(&root);
    let mut client = node.client();
    assert_eq!(client.ask_until_served("SET a 1"), Value::ok());
    // Some are answered at once, some by the partition after a sync: the order is that of the requests all the same.
    client.send(&["SET b 2", "PING", "GET b", "ECHO x", "INCR n", "NOSUCH y", "INCR n", "GET n", "PING z"]);
    let replies: Vec<Value> = (0..9).map(|_| client.receive().expect("nine replies")).collect();
    assert_eq!(replies[..5], [Value::ok(), Value::Simple("PONG"), bulk("2"), bulk("x"), Value::Integer(1)]);
    assert_eq!(error_code(&replies[5]), "ERR");
    assert_eq!(replies[6..], [Value::Integer(2), bulk("2"), bulk("z")]);
    drop(client);
    let served = node.stop().expect("a clean end");
    assert!(served.commands >= 9, "{served:?}");

    node.start();
    let mut client = node.client();
    assert_eq!(client.ask_until_served("GET a"), bulk("1"));
    assert_eq!(client.ask("INCR n"), Value::Integer(3));
}

#[test]
fn a_long_pipeline_beyond_every_limit_is_answered_whole() {
    let root = Folder::new();
    let mut node = cluster_with(&root, 1, |_| {}).pop().expect("one was made");
    node.start_with(|settings| {
        settings.limits.in_flight = 8;
        settings.limits.in_flight_bytes = 2_000;
        settings.limits.output_bytes = 1_000;
    });
    let mut client = node.client();
    assert_eq!(client.ask_until_served("SET a 1"), Value::ok());
    let value = "v".repeat(300);
    let commands: Vec<String> = (0..500).map(|i| format!("SET key{i} {value}{i}")).collect();
    let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
    let mut writer = node.client();
    writer.send(&commands);
    (0..500).for_each(|i| assert_eq!(writer.receive(), Some(Value::ok()), "write {i}"));
    let reads: Vec<String> = (0..500).map(|i| format!("GET key{i}")).collect();
    let reads: Vec<&str> = reads.iter().map(String::as_str).collect();
    writer.send(&reads);
    (0..500).for_each(|i| assert_eq!(writer.receive(), Some(bulk(&format!("{value}{i}")))));
}

#[test]
fn commands_sent_before_the_client_stopped_sending_are_answered() {
    let root = Folder::new();
    let node = one(&root);
    let mut client = node.client();
    client.ask_until_served("SET a 1");
    client.send(&["INCR n", "GET a"]);
    client.close_sending();
    assert_eq!(client.receive(), Some(Value::Integer(1)));
    assert_eq!(client.receive(), Some(bulk("1")));
    assert_eq!(client.receive(), None);
}

#[test]
fn connection_commands() {
    let root = Folder::new();
    let node = one(&root);
    let mut client = node.client();
    client.ask_until_served("SET a 1");
    assert_eq!(client.ask("CLIENT SETNAME me"), Value::ok());
    assert_eq!(client.ask("CLIENT GETNAME"), bulk("me"));
    assert_eq!(error_code(&client.ask("CLIENT SETNAME \"a b\"")), "ERR");
    assert_eq!(client.ask("CLIENT SETINFO LIB-NAME lib"), Value::ok());
    let info = client.ask("CLIENT INFO");
    let info = String::from_utf8_lossy(info.as_bytes().expect("a text")).into_owned();
    assert!(info.contains("name=me") && info.contains("lib-name=lib"), "{info}");
    assert_eq!(client.ask("SELECT 0"), Value::ok());
    assert_eq!(client.ask("SELECT 1"), Value::error("ERR", "DB index is out of range"));
    assert_eq!(client.ask("CONFIG GET app*dfsync"), Value::Array(vec![bulk("appendfsync"), bulk("always")]));
    assert!(matches!(client.ask("HELLO 3"), Value::Map(_)));
    assert!(matches!(client.ask("CONFIG GET databases"), Value::Map(pairs) if pairs.len() == 1));
    assert_eq!(error_code(&client.ask("HELLO 4")), "NOPROTO");
    assert!(client.ask("GET nosuch").is_null());
    let Value::Integer(count) = client.ask("COMMAND COUNT") else { panic!("a number") };
    assert!(count > 40, "{count}");
    let text = client.ask("INFO server keyspace");
    let text = String::from_utf8_lossy(text.as_bytes().expect("a text")).into_owned();
    assert!(
        text.contains("redis_version:7") && text.contains("db0:keys=1") && !text.contains("# Memory"),
        "{text}"
    );
    let status = client.ask("KEYPACT STATUS");
    let status = String::from_utf8_lossy(status.as_bytes().expect("JSON")).into_owned();
    assert!(status.contains("\"role\":\"leader\""), "{status}");
    assert_eq!(client.ask("RESET"), Value::Simple("RESET"));
    assert_eq!(client.ask("CLIENT GETNAME"), Value::Null);
    assert_eq!(client.ask("QUIT"), Value::ok());
    assert_eq!(client.receive(), None);
}

#[test]
fn before_the_password_little_is_taken() {
    let root = Folder::new();
    let mut node = cluster_with(&root, 1, |_| {}).pop().expect("one was made");
    node.start_with(|settings| settings.password = Some("secret".to_owned()));
    let mut client = node.client();
    assert_eq!(error_code(&client.ask("GET a")), "NOAUTH");
    assert_eq!(error_code(&client.ask("HELLO 3")), "NOAUTH");
    assert_eq!(error_code(&client.ask("AUTH wrong")), "WRONGPASS");
    assert_eq!(error_code(&client.ask("AUTH other secret")), "WRONGPASS");
    assert_eq!(client.ask("AUTH secret"), Value::ok());
    assert_eq!(client.ask_until_served(&format!("SET a {}", "v".repeat(20_000))), Value::ok());

    let mut long = node.client();
    long.send_bytes(b"*2\r\n$3\r\nGET\r\n$20000\r\n");
    let reply = long.receive().expect("it is told before it is cut off");
    assert!(
        matches!(&reply, Value::Error(e) if e.message.contains("unauthenticated bulk length")),
        "{reply:?}"
    );
    assert_eq!(long.receive(), None);
    let mut many = node.client();
    many.send_bytes(b"*11\r\n");
    let reply = many.receive().expect("it is told before it is cut off");
    assert!(
        matches!(&reply, Value::Error(e) if e.message.contains("unauthenticated multibulk length")),
        "{reply:?}"
    );
    assert_eq!(many.receive(), None);

    let mut hello = node.client();
    assert!(matches!(hello.ask("HELLO 3 AUTH default secret SETNAME me"), Value::Map(_)));
    assert_eq!(hello.ask("CLIENT GETNAME"), bulk("me"));
}

#[test]
fn garbage_on_any_port_harms_nobody() {
    let root = Folder::new();
    let node = one(&root);
    let mut witness = node.client();
    witness.ask_until_served("SET a 1");
    let garbage: [&[u8]; 8] = [
        b"\0\0\0\0\0\0\0\0\0\0\0\0",
        b"*-5\r\n*1000000000\r\n",
        b"*1\r\n$99999999999999999999\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\"unbalanced\r\n",
        &[0xff; 300],
        b"Y\0\0\0KEYPACTP\x01\0\x01\0aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        b"\x20\0\0\0aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    ];
    for bytes in garbage {
        for address in [&node.member.resp, &node.member.peer, &node.member.http] {
            let mut client = common::Client::connect(address);
            client.send_bytes(bytes);
            drop(client);
        }
    }
    assert_eq!(witness.ask("GET a"), bulk("1"));
    // A stranger is cut off with a reason that is counted.
    until(|| metric(&node, "keypact_peer_cuts_total{reason=\"not-a-peer\"}").filter(|count| *count >= 1.0));
    assert_eq!(http(&node.member.http, "/health").0, 200);
}

#[test]
fn connections_are_bounded() {
    let root = Folder::new();
    let mut node = cluster_with(&root, 1, |_| {}).pop().expect("one was made");
    node.start_with(|settings| settings.limits.connections = 2);
    let mut clients = [node.client(), node.client()];
    clients.iter_mut().for_each(|client| assert_eq!(client.ask("PING"), Value::Simple("PONG")));
    let mut third = node.client();
    assert_eq!(third.receive(), Some(Value::error("ERR", "max number of clients reached")));
    assert_eq!(third.receive(), None);
    assert_eq!(clients[0].ask("QUIT"), Value::ok());
    // Its place is free once the node has noticed.
    until(|| {
        let mut client = node.client();
        client.send(&["PING"]);
        client.receive().filter(|reply| *reply == Value::Simple("PONG"))
    });
}

#[test]
fn admin_http() {
    let root = Folder::new();
    let node = one(&root);
    node.client().ask_until_served("SET a 1");
    assert_eq!(http(&node.member.http, "/health"), (200, "alive\n".to_owned()));
    until(|| (http(&node.member.http, "/ready").0 == 200).then_some(()));
    assert!(metric(&node, "keypact_commands_total{command=\"set\"}") >= Some(1.0));
    assert!(metric(&node, "keypact_log_durable_lsn") >= Some(1.0));
    let (status, body) = http(&node.member.http, "/status");
    assert!(status == 200 && body.contains("\"name\":\"default\""), "{body}");
    assert_eq!(http(&node.member.http, "/nosuch").0, 404);
}

#[test]
fn a_folder_serves_one_process_and_needs_an_identity() {
    let root = Folder::new();
    let node = one(&root);
    node.client().ask_until_served("SET a 1");
    let second = run(settings(node.folder.clone()), &Shutdown::new());
    assert!(matches!(second, Err(ServeError::Storage(StorageError::Locked { .. }))), "{second:?}");

    let empty = root.path().join("empty");
    let refused = run(settings(empty.clone()), &Shutdown::new());
    assert!(matches!(refused, Err(ServeError::NotInitialised { .. })), "{refused:?}");
    assert!(!empty.exists(), "a refusal leaves nothing behind");
    std::fs::create_dir(&empty).expect("the folder is ours");
    let refused = run(settings(empty.clone()), &Shutdown::new());
    assert!(matches!(refused, Err(ServeError::NotInitialised { .. })), "{refused:?}");
    assert_eq!(identity_of(&empty).expect("it can be read"), None);
}

/// Guards against a folder that is deleted while its node starts: with its identity and an empty log a founder would vote a second time.
#[test]
fn a_founder_whose_log_is_gone_does_not_start() {
    let root = Folder::new();
    let mut node = cluster(&root, 1).remove(0);
    assert_eq!(node.client().ask_until_served("SET a 1"), Value::ok());
    node.stop().expect("a clean end");
    let folder = node.folder.clone();
    let files =
        || std::fs::read_dir(&folder).expect("it is there").map(|entry| entry.expect("a file").path());
    for path in files() {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if !["identity", "format", "lock"].contains(&name.as_str()) {
            std::fs::remove_file(path).expect("it is there");
        }
    }
    let left = files().count();
    node.start();
    let error = node.stop().expect_err("its log is gone");
    assert!(error.exit_code() == 3 && error.to_string().contains("deleted in part"), "{error}");
    assert_eq!(files().count(), left, "nothing was made");
}

#[test]
fn bad_addresses_and_settings_are_refused_at_start() {
    let root = Folder::new();
    let node = cluster_with(&root, 1, |_| {}).pop().expect("one was made");
    let mut exposed = settings(node.folder.clone());
    exposed.bind.resp = Some("0.0.0.0:0".to_owned());
    let refused = run(exposed, &Shutdown::new());
    assert!(matches!(refused, Err(ServeError::Exposed { .. })), "{refused:?}");

    // The test holds the ports of the members' list.
    let taken = run(settings(node.folder.clone()), &Shutdown::new());
    let Err(ServeError::Bind { address, .. }) = &taken else { panic!("{taken:?}") };
    assert_eq!(*address, node.member.resp);

    let mut odd = settings(node.folder.clone());
    odd.limits.segment_bytes = 1_000;
    let refused = run(odd, &Shutdown::new());
    assert!(matches!(refused, Err(ServeError::Limits { .. })), "{refused:?}");

    let mut wrong = settings(node.folder.clone());
    wrong.bind.resp = Some("nowhere".to_owned());
    let refused = run(wrong, &Shutdown::new());
    assert!(matches!(refused, Err(ServeError::Address { .. })), "{refused:?}");
    let said = refused.expect_err("no address").to_string();
    assert!(said.contains("nowhere (clients)") && said.contains("can resolve"), "{said}");
}
