//! The other commands, as people and scripts call them.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use serde_json::Value as Json;
use support::{Folder, connect, eventually, free_port, keypact, run, signal, text};

/// The demo's verdict is a checker's; its JSON has what the documentation promises, and its folder goes away.
#[test]
fn the_demo_finds_nothing_lost() {
    let folder = Folder::new("demo");
    let output =
        keypact().args(["demo", "--json", "--seconds", "3"]).env("TMPDIR", &folder.0).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}{}", text(&output.stdout), text(&output.stderr));
    let json: Json = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&json["lost"], &json["verdict"]), (&0.into(), &"linearizable".into()), "{json}");
    for field in ["operations", "acknowledged", "p50_us", "p99_us"] {
        assert!(json[field].as_u64().is_some_and(|number| number > 0), "{field}: {json}");
    }
    assert!(json["write_gap_ms"].as_f64().is_some_and(|gap| gap > 0.0), "{json}");
    assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 0, "the demo leaves nothing behind");
}

/// Folders for several hosts: private, whole, with what each node needs and what to do next.
#[test]
fn init_writes_a_folder_per_node() {
    let folder = Folder::new("init");
    let out = folder.path("cluster");
    let init = |nodes: &str| {
        let output = keypact().args(["init", "--nodes", nodes, "--out"]).arg(&out).output().unwrap();
        (output.status.code(), text(&output.stdout) + &text(&output.stderr))
    };
    let (code, said) = init("db1:7001,db2:7001,db3:7001");
    assert!(code == Some(0) && said.contains("keypact serve --config"), "{said}");
    assert!(said.contains("keypact status --host db1 --port 7001"), "{said}");
    let mut passwords = Vec::new();
    for node in 1..=3 {
        let node_folder = out.join(format!("node-{node}"));
        let config = fs::read_to_string(node_folder.join("keypact.toml")).unwrap();
        assert!(config.contains(&format!("resp = \"db{node}:7001\"")), "{config}");
        assert!(config.contains(&format!("http = \"db{node}:7201\"")), "{config}");
        passwords.extend(config.lines().find(|line| line.starts_with("password = ")).map(ToOwned::to_owned));
        let mode = fs::metadata(node_folder.join("keypact.toml")).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "others can't read the password");
        let mode = fs::metadata(&node_folder).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "others can't read the secret");
    }
    passwords.dedup();
    assert_eq!(passwords.len(), 1, "one password for all");
    let (code, said) = init("db1:7001");
    assert!(code == Some(2) && said.contains("is not empty"), "{said}");
}

/// A node made by hand serves alone, wants its password, and stops when it is told to.
#[test]
fn a_single_node_serves_from_its_file() {
    let folder = Folder::new("serve");
    let out = folder.path("cluster");
    let port = free_port();
    let made = keypact().args(["init", "--nodes", &format!("127.0.0.1:{port}"), "--out"]).arg(&out).output();
    assert!(made.unwrap().status.success());
    let config = out.join("node-1/keypact.toml");
    let mut serve = keypact();
    serve.args(["serve", "--config"]).arg(&config).env("KEYPACT_PASSWORD", "sesame").stderr(Stdio::null());
    let mut child = serve.spawn().unwrap();
    let port_text = port.to_string();
    let asked = |password: &str| run(&["status", "--json", "--port", &port_text, "--password", password]);
    eventually("it leads itself", || asked("sesame").status.code() == Some(0));
    let wrong = asked("wrong");
    assert_eq!(wrong.status.code(), Some(1));
    assert!(text(&wrong.stderr).contains("wants another password (refused: WRONGPASS"), "{wrong:?}");
    let mut connection = connect(port);
    let refused = connection.call(&[b"GET", b"a"]).unwrap();
    assert!(matches!(&refused, keypact_client::Value::Error(error) if error.code == "NOAUTH"), "{refused:?}");
    connection.auth("sesame").unwrap();
    assert!(connection.call(&[b"SET", b"a", b"1"]).unwrap().is_ok());

    let second = keypact().args(["serve", "--config"]).arg(&config).output().unwrap();
    assert_eq!(second.status.code(), Some(2), "{}", text(&second.stderr));
    assert!(text(&second.stderr).contains("uses the folder"), "{}", text(&second.stderr));
    signal(child.id(), rustix::process::Signal::TERM);
    assert!(child.wait().unwrap().success(), "SIGTERM stops it cleanly");
}

#[test]
fn serve_says_what_is_wrong_with_its_file() {
    let folder = Folder::new("config");
    let file = folder.path("keypact.toml");
    let rows = [
        ("id = 1\ndir = \"data\"\nprot = 7\n", "keypact.toml:3:1: unknown field `prot`"),
        ("id = \"1\"\ndir = \"data\"\n", "keypact.toml:1:6: invalid type"),
        ("id = 1\ndir = \"data\"\n[timeouts]\nhold_ms = \"long\"\n", "keypact.toml:4:11: invalid type"),
        ("id = 1\ndir = \"data\"\n", "holds no node: run `keypact init`"),
    ];
    for (config, said) in rows {
        fs::write(&file, config).unwrap();
        let output = keypact().args(["serve", "--config"]).arg(&file).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{config}");
        assert!(text(&output.stderr).contains(said), "{config}: {}", text(&output.stderr));
        assert!(!folder.path("data").exists(), "a node never makes itself an identity");
    }
    let output = keypact().args(["serve", "--config"]).arg(folder.path("absent.toml")).output().unwrap();
    assert!(output.status.code() == Some(2) && text(&output.stderr).contains("absent.toml"));
}

/// A configuration that means another node than its folder would let one node vote as two.
#[test]
fn serve_refuses_another_nodes_folder() {
    let folder = Folder::new("swapped");
    let out = folder.path("cluster");
    let nodes = "127.0.0.1:7001,127.0.0.1:7002,127.0.0.1:7003";
    assert!(keypact().args(["init", "--nodes", nodes, "--out"]).arg(&out).output().unwrap().status.success());
    fs::remove_dir_all(out.join("node-1/data")).unwrap();
    fs::rename(out.join("node-2/data"), out.join("node-1/data")).unwrap();
    let output = keypact().args(["serve", "--config"]).arg(out.join("node-1/keypact.toml")).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("for node 1, but"), "{}", text(&output.stderr));
}

const RIGHT: &str = r#"{"process":0,"type":"invoke","op":"set","key":"a","value":"1"}
{"process":0,"type":"ok"}
{"process":1,"type":"invoke","op":"get","key":"a"}
{"process":1,"type":"ok","value":"1"}
"#;

/// Verdicts and exit codes of `check`, and that a table's undecided or wrong rows count.
#[test]
fn check_tells_right_from_wrong() {
    let folder = Folder::new("check");
    let (right, wrong) = (folder.path("right.jsonl"), folder.path("wrong.jsonl"));
    fs::write(&right, RIGHT).unwrap();
    fs::write(&wrong, RIGHT.replace("\"ok\",\"value\":\"1\"", "\"ok\",\"value\":null")).unwrap();
    let edn = folder.path("right.edn");
    let check = |arguments: &[&std::ffi::OsStr]| keypact().arg("check").args(arguments).output().unwrap();
    let o = std::ffi::OsStr::new;

    let output = check(&[o("--model"), o("kv"), o("--to-edn"), edn.as_os_str(), right.as_os_str()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("linearizable"), "{}", text(&output.stdout));
    assert_eq!(
        check(&[o("--model"), o("kv"), o("--init"), o("nil"), edn.as_os_str()]).status.code(),
        Some(0)
    );

    let output = check(&[o("--model"), o("kv"), o("--json"), right.as_os_str(), wrong.as_os_str()]);
    assert_eq!(output.status.code(), Some(1));
    let json: Json = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&json["files"], &json["wrong"]), (&2.into(), &1.into()), "{json}");
    assert_eq!(json["reports"][1]["verdict"], "not-linearizable", "{json}");
    assert_eq!(json["reports"][1]["violation"]["key"], "a", "{json}");

    let table = folder.path("expected.tsv");
    for (valid, code) in [("false", 0), ("true", 1)] {
        let rows = format!(
            "path\tcheck\tvalid\nright.jsonl\tlinearizable:kv\ttrue\nwrong.jsonl\tlinearizable:kv\t{valid}\n"
        );
        fs::write(&table, rows).unwrap();
        let output = check(&[o("--expected"), table.as_os_str()]);
        assert_eq!(output.status.code(), Some(code), "{}", text(&output.stdout));
    }
    assert_eq!(check(&[o("--model"), o("kv"), folder.path("absent").as_os_str()]).status.code(), Some(2));
}

#[test]
fn completions_are_printed_for_each_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let output = run(&["completions", shell]);
        assert!(output.status.success());
        let script = text(&output.stdout);
        assert!(script.contains("keypact") && script.contains("completions"), "{shell}");
    }
    assert_eq!(run(&["completions", "dos"]).status.code(), Some(2));
}

#[test]
fn status_without_a_cluster_fails() {
    let output = run(&["status", "--port", &free_port().to_string()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("is the cluster up?"), "{}", text(&output.stderr));
}

/// The lists that scripts read, and a few seeds; what is planted needs a build of its own, and this one says so.
#[test]
fn sim_runs_seeds_and_lists_what_it_has() {
    for (option, field, name) in
        [("--scenario", "scenarios", "raft"), ("--plant", "plants", "gate-always-open")]
    {
        let output = run(&["sim", option, "list", "--json"]);
        let json: Json = serde_json::from_slice(&output.stdout).unwrap();
        assert!(json[field].as_array().unwrap().iter().any(|entry| entry["name"] == name), "{json}");
        assert!(text(&run(&["sim", option, "list"]).stdout).contains(name));
    }
    let twice: Vec<Json> = (0..2)
        .map(|_| {
            let output = run(&["sim", "--scenario", "raft", "--seeds", "7..9", "--json"]);
            assert_eq!(output.status.code(), Some(0), "{}{}", text(&output.stdout), text(&output.stderr));
            serde_json::from_slice(&output.stdout).unwrap()
        })
        .collect();
    let report = &twice[0];
    assert_eq!(
        (&report["scenario"], &report["seeds"], &report["first_seed"]),
        (&"raft".into(), &2.into(), &7.into())
    );
    assert_eq!(report["violations"], Json::Array(Vec::new()), "{report}");
    assert!(report["messages_per_second"].is_number() && report["operations"].is_u64(), "{report}");
    assert!(report["sometimes"].is_object() && report["faults"].is_object(), "{report}");
    assert_eq!(report["trace_hash"], twice[1]["trace_hash"], "the same seeds leave the same trace");

    let rows: [(&[&str], &str); 6] = [
        (&["--scenario", "nonsense"], "no scenario"),
        (&["--plant", "nonsense"], "no planted bug"),
        (&["--seeds", "9..7"], "no seed is in 9..7"),
        (&["--seeds", "many"], "is not a number"),
        (&["--trace"], "--seed"),
        (&["--seed", "1", "--seeds", "2"], "cannot be used with"),
    ];
    for (arguments, said) in rows {
        let output = run(&[&["sim"], arguments].concat());
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text(&output.stderr).contains(said), "{arguments:?}: {}", text(&output.stderr));
    }
}

/// Without the planted build the command says how to get it. The binary is copied, so that none can lie beside it.
#[test]
fn a_plant_without_its_build_says_how_to_build_it() {
    let folder = Folder::new("plant");
    fs::create_dir_all(folder.path("target/release")).unwrap();
    let binary = folder.path("target/release/keypact");
    fs::copy(env!("CARGO_BIN_EXE_keypact"), &binary).unwrap();
    let mut sim = std::process::Command::new(&binary);
    let output = sim.args(["sim", "--plant", "gate-always-open"]).current_dir(&folder.0).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("cargo xtask plant"), "{}", text(&output.stderr));

    // One that is there gets the same arguments, and its exit code is ours.
    let planted = folder.path("target/plant/release/keypact");
    fs::create_dir_all(planted.parent().unwrap()).unwrap();
    fs::write(&planted, "#!/bin/sh\necho \"$@\"\nexit 1\n").unwrap();
    fs::set_permissions(&planted, fs::Permissions::from_mode(0o755)).unwrap();
    let mut sim = std::process::Command::new(&binary);
    let output = sim.args(["sim", "--plant", "gate-always-open", "--json"]).output().unwrap();
    assert_eq!(
        (output.status.code(), text(&output.stdout)),
        (Some(1), "sim --plant gate-always-open --json\n".to_owned())
    );
}
