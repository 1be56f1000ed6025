//! Counting in Rust source without parsing it: strings and comments are masked, test items cut out, braces matched.

/// What one file has outside its tests.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Lines, with comments and empty ones.
    pub(crate) lines: usize,
    /// Lines with code on them.
    pub(crate) code_lines: usize,
    /// Calls of `unwrap`.
    pub(crate) unwraps: usize,
    /// `assert!`, `assert_eq!`, `assert_ne!`: those that stay in release.
    pub(crate) assertions: usize,
    /// Functions: name, and lines from `fn` to the closing brace.
    pub(crate) functions: Vec<(String, usize)>,
    /// Modules declared for tests only, whose files are tests.
    pub(crate) test_modules: Vec<String>,
}

/// Counts one file.
pub(crate) fn count(source: &str) -> Counts {
    let mut text = mask(source);
    let total = source.lines().count();
    let (test_lines, test_modules) = cut_tests(&mut text);
    let is_code = |line: &&[u8]| line.iter().any(|byte| !byte.is_ascii_whitespace());
    Counts {
        lines: total - test_lines,
        code_lines: text.split(|&byte| byte == b'\n').filter(is_code).count(),
        unwraps: occurrences(&text, b".unwrap()").count(),
        assertions: [&b"assert!"[..], b"assert_eq!", b"assert_ne!"]
            .into_iter()
            .map(|name| occurrences(&text, name).filter(|&at| starts_word(&text, at)).count())
            .sum(),
        functions: functions(&text),
        test_modules,
    }
}

/// The source with comments blanked, and strings and character literals filled with quotes, byte for byte as long.
fn mask(source: &str) -> Vec<u8> {
    let bytes = source.as_bytes();
    let mut text = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let (end, filler) = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => (line_end(bytes, at), b' '),
            b'/' if bytes[at..].starts_with(b"/*") => (block_comment_end(bytes, at), b' '),
            b'"' => (string_end(bytes, at), b'"'),
            b'r' if starts_literal_prefix(bytes, at) => match raw_string_end(bytes, at) {
                Some(end) => (end, b'"'),
                None => (at + 1, b'r'),
            },
            b'\'' => match character_end(source, at) {
                Some(end) => (end, b'\''),
                None => (at + 1, b'\''),
            },
            byte => (at + 1, byte),
        };
        for byte in text[at..end].iter_mut().filter(|byte| **byte != b'\n') {
            *byte = filler;
        }
        at = end;
    }
    text
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().position(|&byte| byte == b'\n').map_or(bytes.len(), |length| at + length)
}

fn block_comment_end(bytes: &[u8], mut at: usize) -> usize {
    let mut depth = 0;
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    bytes.len()
}

fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// Whether the `r` at `at` can begin a raw literal: alone, or behind the `b` or `c` that begins one.
fn starts_literal_prefix(bytes: &[u8], at: usize) -> bool {
    let before = if at > 0 && matches!(bytes[at - 1], b'b' | b'c') { at - 1 } else { at };
    starts_word(bytes, before)
}

/// The end of `r"..."`, `r#"..."#` and so on; `None` for anything else that begins with `r`.
fn raw_string_end(bytes: &[u8], at: usize) -> Option<usize> {
    let hashes = bytes[at + 1..].iter().take_while(|&&byte| byte == b'#').count();
    let open = at + 1 + hashes;
    if bytes.get(open) != Some(&b'"') {
        return None;
    }
    let close: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
    let length = bytes[open + 1..].windows(close.len()).position(|window| window == close);
    Some(length.map_or(bytes.len(), |length| open + 1 + length + close.len()))
}

/// The end of a character literal; `None` if the quote begins a lifetime or label.
fn character_end(source: &str, at: usize) -> Option<usize> {
    let mut inside = source[at + 1..].chars();
    let first = inside.next()?;
    let after = at + 1 + first.len_utf8();
    if first == '\\' {
        // The escaped character may itself be a quote.
        let rest = source.as_bytes().get(after + 1..)?;
        return rest.iter().position(|&byte| byte == b'\'').map(|length| after + 1 + length + 1);
    }
    (inside.next() == Some('\'')).then_some(after + 1)
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii()
}

fn starts_word(text: &[u8], at: usize) -> bool {
    at == 0 || !is_word(text[at - 1])
}

fn occurrences<'a>(text: &'a [u8], wanted: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    (0..text.len()).filter(move |&at| text[at..].starts_with(wanted))
}

fn word_at(text: &[u8], at: usize) -> &[u8] {
    let length = text[at..].iter().take_while(|&&byte| is_word(byte)).count();
    &text[at..at + length]
}

fn after_blanks(text: &[u8], at: usize) -> usize {
    at + text[at..].iter().take_while(|byte| byte.is_ascii_whitespace()).count()
}

/// Where the item, statement or block that begins at `at` ends: behind its `;`, or behind the brace that closes its body.
fn item_end(text: &[u8], at: usize) -> usize {
    let mut depth = 0_usize;
    let mut braces = 0_usize;
    for (offset, byte) in text[at..].iter().enumerate() {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth = depth.saturating_sub(1),
            // Inside brackets a brace is a constant expression: `[u8; { N }]`.
            b'{' if depth == 0 => braces += 1,
            b'}' if depth == 0 => {
                braces = braces.saturating_sub(1);
                if braces == 0 {
                    return at + offset + 1;
                }
            }
            b';' if depth == 0 && braces == 0 => return at + offset + 1,
            _ => {}
        }
    }
    text.len()
}

/// Words that begin an item; an attribute before anything else (a field, an arm) cuts nothing out.
const ITEM_WORDS: [&[u8]; 16] = [
    b"pub",
    b"mod",
    b"fn",
    b"use",
    b"impl",
    b"struct",
    b"enum",
    b"const",
    b"static",
    b"type",
    b"trait",
    b"extern",
    b"unsafe",
    b"async",
    b"macro_rules",
    b"union",
];

/// Blanks every item that only tests have; returns how many lines that were, and the test modules in files of their own.
fn cut_tests(text: &mut [u8]) -> (usize, Vec<String>) {
    let mut lines = 0;
    let mut modules = Vec::new();
    let mut at = 0;
    while at < text.len() {
        if !text[at..].starts_with(b"#[") {
            at += 1;
            continue;
        }
        let attribute_end = bracket_end(text, at + 1);
        let attribute: Vec<u8> =
            text[at + 2..attribute_end].iter().copied().filter(|b| !b.is_ascii_whitespace()).collect();
        let for_tests = [&b"cfg(test)"[..], b"cfg(all(test,", b"test]"];
        if !for_tests.iter().any(|start| attribute.starts_with(start)) {
            at = attribute_end;
            continue;
        }
        let mut item = after_blanks(text, attribute_end);
        while text[item..].starts_with(b"#[") {
            item = after_blanks(text, bracket_end(text, item + 1));
        }
        if !ITEM_WORDS.contains(&word_at(text, item)) {
            at = attribute_end;
            continue;
        }
        let mut end = item_end(text, item);
        if text.get(after_blanks(text, end)) == Some(&b';') {
            // `use a::{b, c};`
            end = after_blanks(text, end) + 1;
        }
        modules.extend(module_in_own_file(&text[item..end]));
        lines += 1 + text[at..end].iter().filter(|&&byte| byte == b'\n').count();
        for byte in text[at..end].iter_mut().filter(|byte| **byte != b'\n') {
            *byte = b' ';
        }
        at = end;
    }
    (lines, modules)
}

/// Behind the bracket that closes the one at `open`.
fn bracket_end(text: &[u8], open: usize) -> usize {
    let mut depth = 0_usize;
    for (offset, byte) in text[open..].iter().enumerate() {
        match byte {
            b'[' => depth += 1,
            b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return open + offset + 1;
        }
    }
    text.len()
}

/// The name in `mod name;`, with or without `pub`.
fn module_in_own_file(item: &[u8]) -> Option<String> {
    let item = String::from_utf8_lossy(item);
    let mut words = item.strip_suffix(';')?.split_whitespace();
    words.find(|word| *word == "mod")?;
    words.next().map(str::to_string)
}

/// Names and lengths of all functions with a body, in order.
fn functions(text: &[u8]) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for at in occurrences(text, b"fn").filter(|&at| starts_word(text, at)) {
        let behind = after_blanks(text, at + 2);
        let name_at = if text[behind..].starts_with(b"r#") { behind + 2 } else { behind };
        let name = word_at(text, name_at);
        // `fn(u8)` is a type, and `fnord` a word.
        if behind == at + 2 || name.is_empty() {
            continue;
        }
        let end = item_end(text, at);
        if text[end - 1] == b'}' {
            let lines = 1 + text[at..end].iter().filter(|&&byte| byte == b'\n').count();
            found.push((String::from_utf8_lossy(name).into_owned(), lines));
        }
    }
    found
}
