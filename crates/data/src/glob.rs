//! Patterns of `KEYS`, `SCAN` and `CONFIG GET`, with all of Redis' habits.

/// Whether `text` matches: `*` any run, `?` any byte, `[a-c]` and `[^a]` classes, `\` takes the next byte as it is.
///
/// Habits kept: the empty text matches only the empty pattern, not `*`; a class without an end ends with the pattern; the
/// ends of a range are compared as signed bytes and may be the wrong way round; a `\` at the very end stands for itself.
/// O(pattern x text): only the last `*` is ever tried again, as an earlier one could match nothing that this one can't.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    if text.is_empty() {
        return pattern.is_empty();
    }
    let (mut at, mut position) = (0, 0);
    // Behind the last `*`, and how far it reaches.
    let mut star: Option<(usize, usize)> = None;
    while position < text.len() {
        if pattern.get(at) == Some(&b'*') {
            at += 1;
            star = Some((at, position));
        } else if let Some(next) = element(pattern, at, text[position]) {
            at = next;
            position += 1;
        } else if let Some((behind, reached)) = star {
            at = behind;
            position = reached + 1;
            star = Some((behind, position));
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|&byte| byte == b'*')
}

/// Matches the element at `at`, which is no `*`, with one byte: where the pattern goes on.
fn element(pattern: &[u8], at: usize, byte: u8) -> Option<usize> {
    match *pattern.get(at)? {
        b'?' => Some(at + 1),
        b'[' => class(pattern, at + 1, byte),
        b'\\' if at + 1 < pattern.len() => (pattern[at + 1] == byte).then_some(at + 2),
        literal => (literal == byte).then_some(at + 1),
    }
}

/// Matches the class whose inside starts at `at`: where the pattern goes on.
fn class(pattern: &[u8], mut at: usize, byte: u8) -> Option<usize> {
    let negated = pattern.get(at) == Some(&b'^');
    if negated {
        at += 1;
    }
    let mut found = false;
    loop {
        match &pattern[at.min(pattern.len())..] {
            [] => break,
            [b'\\', escaped, ..] => {
                found |= *escaped == byte;
                at += 2;
            }
            [b']', ..] => {
                at += 1;
                break;
            }
            [start, b'-', end, ..] => {
                let (start, end, byte) = (*start as i8, *end as i8, byte as i8);
                found |= (start.min(end)..=start.max(end)).contains(&byte);
                at += 3;
            }
            [literal, ..] => {
                found |= *literal == byte;
                at += 1;
            }
        }
    }
    (found != negated).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns() {
        let table: &[(&[u8], &[u8], bool)] = &[
            (b"", b"", true),
            (b"*", b"", false),
            (b"*", b"a", true),
            (b"a*", b"a", true),
            (b"a**", b"a", true),
            (b"*a*b*", b"xxaxxbxx", true),
            (b"*a*b", b"abab", true),
            (b"*a*b", b"aba", false),
            (b"h?llo", b"hello", true),
            (b"h?llo", b"hllo", false),
            (b"h[ae]llo", b"hallo", true),
            (b"h[^e]llo", b"hello", false),
            (b"h[^e]llo", b"hallo", true),
            (b"h[a-c]llo", b"hbllo", true),
            (b"h[c-a]llo", b"hbllo", true),
            (b"h[a-c]llo", b"hdllo", false),
            (b"[a", b"a", true),
            (b"[", b"a", false),
            (b"[^", b"a", true),
            (b"[^", b"^", true),
            (b"[a-", b"-", true),
            (b"[]]", b"]", false),
            (b"[\\]]", b"]", true),
            (b"\\*", b"*", true),
            (b"\\*", b"a", false),
            (b"a\\", b"a\\", true),
            (b"[a-\xff]", b"b", false),
            (b"[a-\xff]", b"A", true),
            (b"a", b"ab", false),
            (b"ab", b"a", false),
            (b"ab*", b"a", false),
        ];
        for &(pattern, text, expected) in table {
            assert_eq!(
                matches(pattern, text),
                expected,
                "{} {}",
                pattern.escape_ascii(),
                text.escape_ascii()
            );
        }
    }

    #[test]
    fn many_stars_take_no_exponential_time() {
        let pattern = [b"*a".repeat(2_000), b"b".to_vec()].concat();
        assert!(!matches(&pattern, &b"a".repeat(10_000)));
    }
}
