//! The scanner is tested by small sources whose figures one can count by eye; the ratchet by tables of before and after.

use std::collections::BTreeMap;
use std::path::Path;

use super::scan::{Counts, count};
use super::*;

fn functions(of: &[(&str, usize)]) -> Vec<(String, usize)> {
    of.iter().map(|(name, lines)| ((*name).to_string(), *lines)).collect()
}

#[test]
fn functions_are_measured_from_fn_to_brace() {
    let rows: [(&str, &[(&str, usize)]); 12] = [
        ("fn a() {}", &[("a", 1)]),
        ("fn a() {\n    if x {\n    }\n}\nfn b() {}\n", &[("a", 4), ("b", 1)]),
        ("pub(crate) const fn a(\n    x: u8,\n) -> u8 {\n    x\n}", &[("a", 5)]),
        ("trait T {\n    fn a(&self);\n    fn b(&self) {\n    }\n}", &[("b", 2)]),
        ("fn a(f: fn(u8) -> u8) {\n}", &[("a", 2)]),
        ("fn a() {\n    fn b() {\n    }\n}", &[("a", 4), ("b", 2)]),
        ("fn a(x: [u8; { 3 }]) -> [u8; 3] {\n}\nfn b() {}", &[("a", 2), ("b", 1)]),
        ("struct Fnord;\nlet fnord = 1;", &[]),
        ("fn a() {\n    let s = \"}\";\n    // }\n}", &[("a", 4)]),
        ("fn a() {\n    let c = '}';\n    let d = '\\'';\n    let e = b'{';\n}", &[("a", 5)]),
        ("fn a<'x>(s: &'x str) {\n    let r = r#\"}\" {\"#;\n    /* } /* } */ } */\n}", &[("a", 4)]),
        ("fn r#type() {\n}", &[("type", 2)]),
    ];
    for (source, expected) in rows {
        assert_eq!(count(source).functions, functions(expected), "{source}");
    }
}

#[test]
fn unwraps_and_assertions_are_counted_in_code_only() {
    let rows = [
        ("a.unwrap();", 1, 0),
        ("a\n    .unwrap()\n    .unwrap();", 2, 0),
        ("a.unwrap_or(0); b.unwrap_or_default(); unwrap();", 0, 0),
        ("// a.unwrap()\n\"b.unwrap()\"; /* .unwrap() */ r\".unwrap()\";", 0, 0),
        ("assert!(x); assert_eq!(a, b); assert_ne!(a, b);", 0, 3),
        ("debug_assert!(x); debug_assert_eq!(a, b); self.assert_invariants();", 0, 0),
        ("core::assert!(x); \"assert!(y)\"; // assert!(z)", 0, 1),
        ("b\"\\\".unwrap()\"; br##\"\"#.unwrap()\"##; 'x'.unwrap();", 1, 0),
        ("let quote = '\"'; a.unwrap(); let quote = '\"';", 1, 0),
        ("let x: &'static str = y.unwrap(); 'outer: loop { z.unwrap() }", 2, 0),
        ("let x = 'é'; y.unwrap(); '\\u{7d}'; assert!(z)", 1, 1),
    ];
    for (source, unwraps, assertions) in rows {
        let counts = count(source);
        assert_eq!((counts.unwraps, counts.assertions), (unwraps, assertions), "{source}");
    }
}

#[test]
fn tests_are_cut_out() {
    let source = "\
//! Doc.
fn a() {
    x.unwrap();
}

#[cfg(test)]
#[allow(dead_code)]
mod tests {
    fn long() {
        x.unwrap();
        assert!(true);
    }
}

#[cfg(test)]
mod cases;
#[cfg(all(test, unix))]
pub(crate) mod more;
#[cfg(test)]
use std::{a, b};
#[cfg(not(test))]
fn b() {}
";
    let expected = Counts {
        lines: source.lines().count() - 8 - 2 - 2 - 2,
        code_lines: 5,
        unwraps: 1,
        assertions: 0,
        functions: functions(&[("a", 3), ("b", 1)]),
        test_modules: vec!["cases".to_string(), "more".to_string()],
    };
    assert_eq!(count(source), expected);
}

#[test]
fn an_attribute_on_a_field_cuts_nothing() {
    let counts = count("struct A {\n    #[cfg(test)]\n    probe: u8,\n}\nfn a() {\n    b.unwrap();\n}\n");
    assert_eq!((counts.lines, counts.unwraps, counts.functions.len()), (7, 1, 1));
}

#[test]
fn broken_source_is_counted_without_panic() {
    for source in [
        "\"",
        "'",
        "r#\"",
        "/*",
        "fn",
        "fn a",
        "#[",
        "#[cfg(test)]",
        "fn a() {",
        "}}",
        "'\\",
        "\\",
        "b'",
        "é'",
    ] {
        count(source);
    }
}

fn debts(functions: &[(&str, usize)], unwraps: &[(&str, usize)], assertions: &[(&str, usize)]) -> Debts {
    let map =
        |rows: &[(&str, usize)]| rows.iter().map(|(k, v)| ((*k).to_string(), *v)).collect::<BTreeMap<_, _>>();
    Debts {
        functions_over_70_lines: map(functions),
        unwraps: map(unwraps),
        assertions_per_1000_lines: map(assertions),
        ..Debts::default()
    }
}

#[test]
fn figures_may_only_get_better() {
    let listed = debts(&[("a.rs::f", 90), ("a.rs::g", 80)], &[("a.rs", 3)], &[("data", 20)]);
    let rows = [
        // Unchanged.
        (listed.clone(), vec![], listed.clone()),
        // All paid.
        (Debts::default(), vec![], Debts::default()),
        // Better, each in its own direction.
        (
            debts(&[("a.rs::f", 75)], &[("a.rs", 1)], &[("data", 30)]),
            vec![],
            debts(&[("a.rs::f", 75)], &[("a.rs", 1)], &[("data", 30)]),
        ),
        // Worse: named, and never written.
        (
            debts(&[("a.rs::f", 91), ("a.rs::h", 71)], &[("a.rs", 4)], &[("data", 19), ("node", 10)]),
            vec![
                "functions_over_70_lines: a.rs::f: 91, was 90",
                "functions_over_70_lines: a.rs::h: 71",
                "unwraps: a.rs: 4, was 3",
                "assertions_per_1000_lines: data: 19, was 20",
                "assertions_per_1000_lines: node: 10",
            ],
            debts(&[("a.rs::f", 90)], &[("a.rs", 3)], &[("data", 20)]),
        ),
    ];
    for (now, worse, written) in rows {
        assert_eq!(now.worse_than(&listed), worse);
        assert_eq!(now.improved(&listed), written);
    }
}

#[test]
fn every_long_function_of_a_file_is_a_debt_of_its_own() {
    let mut measured = Measured { debts: Debts::default(), long_files: Vec::new(), files: 0 };
    let long = |name: &str, lines| (name.to_string(), lines);
    let counts = Counts {
        lines: 501,
        unwraps: 2,
        functions: vec![long("f", 71), long("f", 72), long("f", 73), long("g", 70)],
        ..Counts::default()
    };
    measured.add("a.rs", &counts);
    measured.add("b.rs", &Counts { lines: 1001, ..Counts::default() });
    let expected = Debts {
        files_over_1000_lines: BTreeMap::from([("b.rs".to_string(), 1001)]),
        ..debts(&[("a.rs::f", 71), ("a.rs::f#2", 72), ("a.rs::f#3", 73)], &[("a.rs", 2)], &[])
    };
    assert_eq!(measured.debts, expected);
    assert_eq!(measured.long_files, [("a.rs".to_string(), 501)]);
}

#[test]
fn a_modules_files_lie_beside_or_below_its_own() {
    let rows =
        [("src/lib.rs", "src"), ("src/a/mod.rs", "src/a"), ("src/a.rs", "src/a"), ("src/main.rs", "src")];
    for (file, folder) in rows {
        assert_eq!(children_folder(Path::new(file)), Path::new(folder));
    }
}

#[test]
fn the_tree_is_measured_without_its_tests() {
    let repository = Repository::find().expect("the tests run in the repository");
    let measured = measure(&repository).expect("every file can be read");
    assert!(measured.files > 20, "{} files", measured.files);
    let named = serde_json::to_string(&measured.debts).expect("maps of numbers are JSON");
    assert!(
        !named.contains("xtask/src/ratchet/tests.rs"),
        "this file unwraps nothing, but others like it may"
    );
    read(&repository).expect("ratchet.json can be read");
}
