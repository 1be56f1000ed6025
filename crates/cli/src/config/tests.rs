//! Files that are right, and each way in which one can be wrong: what is said, and where.

use super::*;

const RIGHT: &str = "id = 2\ndir = \"data\"\n";

fn read(text: &str) -> Result<Config, Failure> {
    parse(Path::new("there/keypact.toml"), text, None)
}

#[test]
fn the_smallest_file_takes_all_defaults() {
    let config = read(RIGHT).unwrap();
    assert_eq!(config.id, 2);
    assert_eq!(config.settings.folder, Path::new("there/data"));
    assert_eq!(config.settings.password, None);
    assert_eq!(config.settings.node.heartbeat_ms, Settings::new("x").node.heartbeat_ms);
}

#[test]
fn all_keys_arrive() {
    let config = read(
        "id = 1\ndir = \"/d\"\nresp = \"127.0.0.1:1\"\npeer = \"[::1]:2\"\nhttp = \"host:3\"\npassword = \"x y\"\n\
         reads = \"read-index\"\n[timeouts]\nhold_ms = 17\nhandshake_ms = 18\n[limits]\nconnections = 19\nlog_bytes = 20\n",
    );
    let settings = config.unwrap().settings;
    assert_eq!(settings.folder, Path::new("/d"));
    assert_eq!(settings.bind.resp.as_deref(), Some("127.0.0.1:1"));
    assert_eq!(settings.bind.peer.as_deref(), Some("[::1]:2"));
    assert_eq!(settings.bind.http.as_deref(), Some("host:3"));
    assert_eq!(settings.password.as_deref(), Some("x y"));
    assert_eq!(settings.node.reads, Reads::ReadIndex);
    assert_eq!((settings.node.hold_ms, settings.limits.handshake_ms), (17, 18));
    assert_eq!((settings.limits.connections, settings.limits.log_bytes), (19, 20));
}

#[test]
fn mistakes_are_told_with_their_place() {
    let rows = [
        ("id = 1\ndir = \"d\"\nport = 7001\n", "3:1: unknown field `port`"),
        ("id = 1\ndir = \"d\"\n[limits]\nconections = 5\n", "4:1: unknown field `conections`"),
        ("id = \"one\"\ndir = \"d\"\n", "1:6: invalid type: string \"one\", expected u64"),
        ("id = 1\ndir = 5\n", "2:7: invalid type: integer `5`, expected"),
        ("id = -1\ndir = \"d\"\n", "1:6: invalid value: integer `-1`, expected u64"),
        ("id = 1\ndir = \"d\"\nresp = \"7001\"\n", "3:8: \"7001\" is not of the form host:port"),
        ("id = 1\ndir = \"d\"\npeer = \"h:70000\"\n", "3:8: \"h:70000\" is not of the form host:port"),
        (
            "id = 1\ndir = \"d\"\nreads = \"fast\"\n",
            "3:9: \"fast\": reads are \"lease\", \"read-index\" or \"stale\"",
        ),
        (
            "id = 1\ndir = \"d\"\n[timeouts]\n  hold_ms = true\n",
            "4:13: invalid type: boolean `true`, expected u64",
        ),
        ("id = 1\ndir = \"d\"\nlimits = 3\n", "3:10: invalid type: integer `3`, expected struct LimitTable"),
        ("id = 1\ndir = \"d\nhttp = 3\n", "2:9: "),
        ("dir = \"d\"\n", "1:1: missing field `id`"),
        ("id = 1\nid = 2\n", "2:1: duplicate key"),
    ];
    for (text, expected) in rows {
        let error = read(text).unwrap_err();
        assert_eq!(error.code, 2);
        let found = error.text.strip_prefix("there/keypact.toml:").unwrap_or(&error.text);
        assert!(found.starts_with(expected), "{text:?}\n  expected {expected}\n  found    {found}");
        assert!(!found.contains('\n'), "one line: {found}");
    }
}

#[test]
fn columns_count_characters() {
    let error = read("id = 1\ndir = \"ö\" bad\n").unwrap_err();
    assert!(error.text.starts_with("there/keypact.toml:2:11: "), "{}", error.text);
}

#[test]
fn the_password_comes_from_one_place() {
    let folder = std::env::temp_dir().join(format!("keypact-config-test-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join("keypact.toml");
    fs::write(folder.join("secret"), "from file\n").unwrap();
    fs::write(folder.join("empty"), "\n").unwrap();
    let with = |line: &str, variable: Option<&str>| {
        let text = format!("{RIGHT}{line}\n");
        parse(&path, &text, variable.map(ToOwned::to_owned)).map(|config| config.settings.password)
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(with("", None).unwrap(), None);
    assert_eq!(with("password = \"a\"", None).unwrap(), some("a"));
    assert_eq!(with("password_file = \"secret\"", None).unwrap(), some("from file"));
    assert_eq!(with("password_file = \"secret\"", Some("variable")).unwrap(), some("variable"));
    for (line, said) in [
        ("password = \"\"", "must have 1 to 512 bytes"),
        ("password_file = \"empty\"", "must have 1 to 512 bytes"),
        ("password_file = \"absent\"", "cannot read the password file"),
        ("password = \"a\"\npassword_file = \"secret\"", "are both there"),
    ] {
        let error = with(line, None).unwrap_err();
        assert!(error.text.contains(said), "{line}: {}", error.text);
    }
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn what_we_write_we_read() {
    let template = Template {
        id: 3,
        cluster: "c",
        addresses: ["127.0.0.1:7003", "127.0.0.1:7103", "127.0.0.1:7203"],
        reads: Reads::Stale,
        password: Some("quote\" and \\ line\n"),
    };
    let config = read(&template.text()).unwrap();
    assert_eq!((config.id, config.settings.node.reads), (3, Reads::Stale));
    assert_eq!(config.settings.password.as_deref(), Some("quote\" and \\ line\n"));
}

/// Guards the comments: with all defaults uncommented the file is still right, and changes nothing; and no key is left out.
#[test]
fn the_defaults_in_the_comments_are_the_defaults() {
    let template = Template {
        id: 1,
        cluster: "c",
        addresses: ["h:1", "h:2", "h:3"],
        reads: Reads::Lease,
        password: None,
    };
    let text = template.text();
    let keys: Vec<&str> = TimeoutTable::KEYS.iter().chain(LimitTable::KEYS).copied().collect();
    let mut shown = 0;
    let mut lines = Vec::new();
    for line in text.lines() {
        let bare = line.strip_prefix("# ").unwrap_or(line);
        let is_default = keys.iter().any(|key| bare.starts_with(&format!("{key} = ")));
        shown += usize::from(is_default);
        lines.push(if is_default { bare } else { line });
    }
    assert_eq!(shown, keys.len(), "each key is shown once");
    let config = read(&lines.join("\n")).unwrap().settings;
    let defaults = Settings::new("there/data");
    assert_eq!(format!("{:?}", config.limits), format!("{:?}", defaults.limits));
    assert_eq!(format!("{:?}", config.node), format!("{:?}", defaults.node));
}
