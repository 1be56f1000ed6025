//! Malformed histories get the right error at the right place; what is well-formed survives being written and read.

use super::edn::{self, Edn, MAX_DEPTH};
use super::*;
use crate::error::EdnProblem;
use crate::history::{Answer, Outcome, Recorder, Value};

fn refused(text: &str) -> (u32, u32, Problem) {
    let error = read_text(text, &ReadOptions::default()).expect_err("malformed");
    (error.line, error.column, error.problem)
}

#[test]
fn formats_are_told_by_their_first_characters() {
    for (text, format) in [
        ("{\"process\":1}", Format::Jsonl),
        ("\n { \"process\":1}", Format::Jsonl),
        ("", Format::Jsonl),
        ("{:process 1}", Format::Edn),
        ("[{:process 1}]", Format::Edn),
        ("; comment\n[]", Format::Edn),
        ("#jepsen.history.Op{:process 1}", Format::Edn),
        ("INFO  jepsen.util - 0\t:invoke\t:read\tnil", Format::JepsenLog),
    ] {
        assert_eq!(Format::detect(text), format, "{text}");
    }
    for format in [Format::Jsonl, Format::Edn, Format::JepsenLog] {
        assert_eq!(Format::from_name(format.name()), Some(format));
    }
    assert_eq!(Format::from_name("xml"), None);
}

#[test]
fn json_lines_are_refused_where_they_are_wrong() {
    let invoke = "{\"process\":1,\"type\":\"invoke\",\"op\":\"get\"}\n";
    let double = Problem::DoubleInvoke { process: 1 };
    assert_eq!(refused(&format!("{invoke}{invoke}")), (2, 2, double));
    let nothing = Problem::ReturnWithoutInvoke { process: 7 };
    assert_eq!(refused("\n{\"type\":\"ok\",\"process\":7}"), (2, 14, nothing));
    let unknown = "{\"process\":1,\"type\":\"unknown\"}\n";
    let reused = Problem::ProcessReused { process: 1 };
    assert_eq!(refused(&format!("{invoke}{unknown}{invoke}")), (3, 2, reused));
    let back = format!(
        "{}{}",
        invoke.replace("}", ",\"time_ns\":9}"),
        "{\"process\":1,\"type\":\"ok\",\"time_ns\":8}"
    );
    assert_eq!(refused(&back).2, Problem::TimeBackwards { before_ns: 9, after_ns: 8 });
    let other = format!("{invoke}{{\"process\":1,\"type\":\"ok\",\"op\":\"set\"}}");
    assert!(matches!(refused(&other), (2, 26, Problem::OtherOperation { process: 1, .. })));
    for (line, column, what) in [
        ("{\"process\":1", 12, "Json"),
        ("{\"process\":-1,\"type\":\"invoke\"}", 2, "BadField"),
        ("{\"type\":\"invoke\"}", 1, "MissingField"),
        ("{\"process\":1}", 1, "MissingField"),
        ("{\"process\":1,\"type\":\"invoke\"}", 1, "MissingField"),
        ("{\"process\":1,\"type\":\"invoke\",\"op\":\"jump\"}", 30, "UnknownOperation"),
        ("{\"process\":1,\"type\":\"invoke\",\"op\":\"set\"}", 1, "MissingField"),
        ("{\"process\":1,\"type\":\"invoke\",\"op\":\"set\",\"value\":1.5}", 41, "BadField"),
        ("{\"process\":1,\"type\":\"invoke\",\"op\":\"incr\",\"value\":\"x\"}", 42, "BadField"),
        (
            "{\"process\":1,\"type\":\"invoke\",\"op\":\"decr\",\"value\":-9223372036854775808}",
            42,
            "BadField",
        ),
        ("{\"process\":1,\"type\":\"invoke\",\"op\":\"get\",\"colour\":1}", 1, "UnknownField"),
        ("{\"process\":1,\"type\":\"invoke\",\"op\":\"get\",\"time_ns\":\"now\"}", 41, "BadField"),
    ] {
        let (at, found, problem) = refused(line);
        assert!(format!("{problem:?}").starts_with(what), "{line}: {problem:?}");
        assert_eq!((at, found), (1, column), "{line}: {problem}");
    }
    let cas = "{\"process\":1,\"type\":\"invoke\",\"op\":\"cas\",\"expected\":1,\"value\":2}\n{\"process\":1,\"type\":\"ok\"}";
    assert_eq!(refused(cas), (2, 1, Problem::MissingField("value")));
}

#[test]
fn edn_is_refused_where_it_is_wrong() {
    let edn = |problem| Problem::Edn(problem);
    assert_eq!(refused("[{:process 1"), (1, 13, edn(EdnProblem::EndsInside)));
    assert_eq!(refused("[{:process 1]"), (1, 13, edn(EdnProblem::Unexpected(']'))));
    assert_eq!(refused("[]\n ]"), (2, 2, edn(EdnProblem::Unexpected(']'))));
    assert_eq!(refused("[{:process}]"), (1, 3, edn(EdnProblem::OddMap)));
    assert_eq!(refused("[1x]"), (1, 2, edn(EdnProblem::BadToken("1x".to_owned()))));
    assert_eq!(
        refused("[99999999999999999999]").2,
        edn(EdnProblem::BadToken("99999999999999999999".to_owned()))
    );
    assert_eq!(refused("[\"a\\q\"]").2, edn(EdnProblem::BadEscape));
    assert_eq!(refused("[\"a\\ud800\"]").2, edn(EdnProblem::BadEscape));
    assert_eq!(refused(&"[".repeat(100_000)).2, edn(EdnProblem::TooDeep(MAX_DEPTH)));
    assert_eq!(refused(&"#a ".repeat(100_000)).2, edn(EdnProblem::TooDeep(MAX_DEPTH)));
    assert!(matches!(refused("[\n 7]"), (2, 2, Problem::BadField { field: "event", .. })));
    let event = |rest: &str| format!("[{{:process 1, {rest}}}]");
    assert_eq!(refused(&event(":f :read")).2, Problem::MissingField("type"));
    assert_eq!(refused(&event(":type :invoke")).2, Problem::MissingField("f"));
    assert_eq!(refused(&event(":type :done, :f :read")).2, Problem::UnknownType("done".to_owned()));
    assert_eq!(refused(&event(":type :invoke, :f :jump")).2, Problem::UnknownOperation("jump".to_owned()));
    assert!(matches!(refused(&event(":type :invoke, :f :cas, :value 3")).2, Problem::BadField { .. }));
    assert!(matches!(refused(&event(":type :invoke, :f :write, :value 1.5")).2, Problem::BadField { .. }));
    assert_eq!(refused(&event(":type :ok, :f :read")).2, Problem::ReturnWithoutInvoke { process: 1 });
}

#[test]
fn edn_forms() {
    let forms =
        edn::read_all("nil, true -7 +7 2.5 8N \"a\\n\\u0041\" :k sym (1 #_2 3) #{1} #inst \"x\" \\a ; end")
            .unwrap();
    let forms: Vec<Edn> = forms.into_iter().map(|located| located.form).collect();
    assert_eq!(
        forms[..6],
        [Edn::Nil, Edn::Boolean(true), Edn::Integer(-7), Edn::Integer(7), Edn::Float(2.5), Edn::Integer(8)]
    );
    assert_eq!(forms[6], Edn::Text("a\nA".to_owned()));
    assert_eq!(forms[7..9], [Edn::Keyword("k".to_owned()), Edn::Symbol("sym".to_owned())]);
    assert!(matches!(&forms[9], Edn::Sequence(forms) if forms.len() == 2));
    assert!(matches!(&forms[10], Edn::Sequence(forms) if forms.len() == 1));
    assert_eq!(forms[11..], [Edn::Text("x".to_owned()), Edn::Text("a".to_owned())]);
}

#[test]
fn keys_beside_values() {
    let text = "[{:process 1, :type :invoke, :f :read, :value [9 nil]}\n {:process 2, :type :invoke, :f :cas, :value [8 [1 2]]}
        {:process 1, :type :ok, :f :read, :value [9 4]}]";
    let (_, history) = read_text(text, &ReadOptions::default()).unwrap();
    let keys: Vec<&str> = history.operations.iter().map(|operation| &*operation.key).collect();
    assert_eq!(keys, ["9", "8"]);
    assert_eq!(history.operations[0].outcome, Outcome::Ok(Answer::Value(Value::Integer(4))));
    let cas = Call::CompareAndSet { expected: Value::Integer(1), new: Value::Integer(2) };
    assert_eq!(history.operations[1].call, cas);
}

#[test]
fn logs_are_refused_where_they_are_wrong() {
    let line = |rest: &str| format!("INFO  jepsen.util - {rest}");
    assert_eq!(refused("0 :invoke :read nil"), (1, 1, Problem::NotALogLine));
    assert_eq!(refused(&line("0\t:invoke")), (1, 21, Problem::MissingField("operation")));
    assert_eq!(refused(&line("0\t:invoke\t:write")), (1, 21, Problem::MissingField("value")));
    assert!(matches!(
        refused(&line("0\tinvoke\t:write\t1")),
        (1, 23, Problem::BadField { field: "type", .. })
    ));
    assert_eq!(refused(&line("0\t:invoke\t:jump\t1")), (1, 31, Problem::UnknownOperation("jump".to_owned())));
    assert_eq!(refused(&line("0\t:ok\t:write\t1")), (1, 21, Problem::ReturnWithoutInvoke { process: 0 }));
    let others = "WARN  jepsen.core - nothing to us\nINFO  jepsen.util - :nemesis\t:info\t:start\tnil\n";
    assert_eq!(
        read_text(others, &ReadOptions { format: Some(Format::JepsenLog), ..ReadOptions::default() })
            .unwrap()
            .1,
        History::default()
    );
}

#[test]
fn what_is_no_text_is_refused() {
    let path = std::env::temp_dir().join(format!("keypact-checker-bytes-{}", std::process::id()));
    std::fs::write(&path, b"{\"a\":\n\xff").unwrap();
    let error = read_file(&path, &ReadOptions::default());
    std::fs::remove_file(&path).unwrap();
    match error {
        Err(CheckError::History(error)) => {
            assert_eq!((error.line, error.column, error.problem), (2, 1, Problem::NotText))
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(read_file(&path, &ReadOptions::default()), Err(CheckError::File { .. })));
}

/// One operation of each kind and outcome, with strings that need escapes.
fn everything() -> History {
    let text = Value::text("a \"b\"\n\\\u{1}é");
    let ok = |answer| Some(Outcome::Ok(answer));
    let mut recorder = Recorder::new();
    let events = [
        (Call::Read, ok(Answer::Value(Value::Nil))),
        (Call::Write(text.clone()), ok(Answer::Nothing)),
        (Call::Read, ok(Answer::Value(text.clone()))),
        (Call::Append("x".into()), ok(Answer::Integer(12))),
        (Call::Delete, ok(Answer::Integer(1))),
        (Call::Add(-3), ok(Answer::Integer(-3))),
        (Call::Add(3), ok(Answer::Nothing)),
        (Call::GetSet(text.clone()), ok(Answer::Value(Value::Nil))),
        (Call::SetIfAbsent(text.clone()), ok(Answer::Applied(false))),
        (Call::CompareAndSet { expected: text.clone(), new: Value::text("7") }, ok(Answer::Applied(true))),
        (Call::CompareAndSet { expected: Value::Nil, new: text.clone() }, ok(Answer::Applied(false))),
        (Call::Write(text.clone()), Some(Outcome::Failed)),
        (Call::Write(text.clone()), None),
        (Call::Delete, Some(Outcome::Unknown)),
    ];
    for (number, (call, outcome)) in events.into_iter().enumerate() {
        recorder.invoke(number as u64, "k\"1", call, Some(2 * number as u64), 0).unwrap();
        if let Some(outcome) = outcome {
            recorder.finish(number as u64, outcome, Some(2 * number as u64 + 1), 0).unwrap();
        }
    }
    recorder.into_history()
}

#[test]
fn written_and_read_again_it_is_the_same() {
    let history = everything();
    for (format, text) in [(Format::Jsonl, write_jsonl(&history)), (Format::Edn, write_edn(&history))] {
        let (found, mut again) = read_text(&text, &ReadOptions::default()).unwrap();
        assert_eq!(found, format);
        for operation in &mut again.operations {
            // EDN has no times, and only files have lines.
            operation.invoked.line = 0;
            operation.invoked.time_ns = Some(2 * operation.process);
            if let Some(moment) = &mut operation.returned {
                (moment.line, moment.time_ns) = (0, Some(2 * operation.process + 1));
            }
        }
        assert_eq!(again.operations, history.operations, "{format:?}\n{text}");
    }
}

#[test]
fn lists_of_several_clients_are_merged_by_time() {
    let history = everything();
    let mut shuffled = history.operations.clone();
    shuffled.reverse();
    assert_eq!(History::merge(shuffled).unwrap(), history);
    let mut timeless = history.operations;
    timeless[3].invoked.time_ns = None;
    assert_eq!(History::merge(timeless), Err(Problem::MissingField("time_ns")));
}

/// Cut and changed bytes of good files: an error or a history, never a panic.
#[test]
fn damaged_texts_do_no_harm() {
    let history = everything();
    for text in [write_jsonl(&history), write_edn(&history)] {
        for cut in (0..text.len()).filter(|&cut| text.is_char_boundary(cut)) {
            let _ = read_text(&text[..cut], &ReadOptions::default());
            for with in ["", "{", "]", "\"", "#", "-9", ":"] {
                let rest = &text[cut..];
                let rest = &rest[rest.chars().next().map_or(0, char::len_utf8)..];
                let changed = format!("{}{with}{rest}", &text[..cut]);
                for format in [Format::Jsonl, Format::Edn, Format::JepsenLog] {
                    let _ = read_text(&changed, &ReadOptions { format: Some(format), failed_cas: None });
                }
            }
        }
    }
}
