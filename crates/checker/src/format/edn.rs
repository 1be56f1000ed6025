//! A reader for the part of EDN (the data notation of Clojure) that histories use.
//!
//! Vectors, lists, sets, maps, keywords, symbols, strings, characters, 64-bit integers, floats, nil, booleans, comments,
//! discarded forms (`#_`) and tags, whose values are taken without the tag. Nesting is limited, sizes are those of the text.

use std::fmt;

use crate::error::{EdnProblem, HistoryError, Problem};

/// Forms nested deeper are refused.
pub const MAX_DEPTH: usize = 32;

/// A form.
#[derive(Clone, Debug, PartialEq)]
pub enum Edn {
    /// `nil`
    Nil,
    /// `true`, `false`
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// Any other number.
    Float(f64),
    /// `"text"`, and characters.
    Text(String),
    /// `:name`
    Keyword(String),
    /// `name`
    Symbol(String),
    /// `[..]`, `(..)`, `#{..}`
    Sequence(Vec<Located>),
    /// `{..}`
    Map(Vec<(Located, Located)>),
}

/// A form and where it begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Located {
    /// The form.
    pub form: Edn,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

impl fmt::Display for Edn {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Edn::Nil => out.write_str("nil"),
            Edn::Boolean(truth) => write!(out, "{truth}"),
            Edn::Integer(number) => write!(out, "{number}"),
            Edn::Float(number) => write!(out, "{number:?}"),
            Edn::Text(text) => out.write_str(&quoted(text)),
            Edn::Keyword(name) => write!(out, ":{name}"),
            Edn::Symbol(name) => out.write_str(name),
            Edn::Sequence(forms) => write!(out, "[{} forms]", forms.len()),
            Edn::Map(entries) => write!(out, "{{{} entries}}", entries.len()),
        }
    }
}

/// A string as EDN writes it.
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            control if u32::from(control) < 0x20 => out.push_str(&format!("\\u{:04x}", u32::from(control))),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

/// Reads all forms of a text. O(n).
///
/// # Errors
/// The first place where it is no EDN.
pub fn read_all(text: &str) -> Result<Vec<Located>, HistoryError> {
    let mut reader = Reader { rest: text.chars(), line: 1, column: 1 };
    let mut forms = Vec::new();
    while let Some(form) = reader.form(0)? {
        forms.push(form);
    }
    match reader.peek() {
        None => Ok(forms),
        Some(bracket) => Err(reader.problem(EdnProblem::Unexpected(bracket))),
    }
}

struct Reader<'a> {
    rest: std::str::Chars<'a>,
    line: u32,
    column: u32,
}

impl Reader<'_> {
    fn peek(&self) -> Option<char> {
        self.rest.clone().next()
    }

    fn take(&mut self) -> Option<char> {
        let character = self.rest.next()?;
        if character == '\n' {
            self.line = self.line.saturating_add(1);
            self.column = 1;
        } else {
            self.column = self.column.saturating_add(1);
        }
        Some(character)
    }

    fn problem(&self, problem: EdnProblem) -> HistoryError {
        HistoryError::at(self.line, self.column, Problem::Edn(problem))
    }

    fn skip_blank(&mut self) {
        while let Some(character) = self.peek() {
            if character == ';' {
                while self.peek().is_some_and(|character| character != '\n') {
                    self.take();
                }
            } else if character.is_whitespace() || character == ',' || character == '\u{feff}' {
                self.take();
            } else {
                return;
            }
        }
    }

    /// The next form; `None` at the end of the text or before a closing bracket.
    fn form(&mut self, depth: usize) -> Result<Option<Located>, HistoryError> {
        if depth > MAX_DEPTH {
            return Err(self.problem(EdnProblem::TooDeep(MAX_DEPTH)));
        }
        loop {
            self.skip_blank();
            let (line, column) = (self.line, self.column);
            let form = match self.peek() {
                None | Some(']' | ')' | '}') => return Ok(None),
                Some('[') => Edn::Sequence(self.sequence(']', depth)?),
                Some('(') => Edn::Sequence(self.sequence(')', depth)?),
                Some('{') => self.map(depth)?,
                Some('"') => self.string()?,
                Some('\\') => self.character()?,
                Some('#') => match self.tagged(depth)? {
                    Some(form) => form,
                    None => continue,
                },
                Some(_) => self.token()?,
            };
            return Ok(Some(Located { form, line, column }));
        }
    }

    fn sequence(&mut self, close: char, depth: usize) -> Result<Vec<Located>, HistoryError> {
        self.take();
        let mut forms = Vec::new();
        while let Some(form) = self.form(depth + 1)? {
            forms.push(form);
        }
        match self.peek() {
            None => Err(self.problem(EdnProblem::EndsInside)),
            Some(bracket) if bracket == close => {
                self.take();
                Ok(forms)
            }
            Some(bracket) => Err(self.problem(EdnProblem::Unexpected(bracket))),
        }
    }

    fn map(&mut self, depth: usize) -> Result<Edn, HistoryError> {
        let mut forms = self.sequence('}', depth)?.into_iter();
        let mut entries = Vec::with_capacity(forms.len() / 2);
        while let Some(key) = forms.next() {
            let Some(value) = forms.next() else {
                return Err(HistoryError::at(key.line, key.column, Problem::Edn(EdnProblem::OddMap)));
            };
            entries.push((key, value));
        }
        Ok(Edn::Map(entries))
    }

    /// What follows `#`: a set, a discarded form (`None`), or a tag, which we pass over.
    fn tagged(&mut self, depth: usize) -> Result<Option<Edn>, HistoryError> {
        self.take();
        match self.peek() {
            None => Err(self.problem(EdnProblem::EndsInside)),
            Some('{') => Ok(Some(Edn::Sequence(self.sequence('}', depth)?))),
            Some('_') => {
                self.take();
                match self.form(depth + 1)? {
                    Some(_) => Ok(None),
                    None => Err(self.problem(EdnProblem::EndsInside)),
                }
            }
            Some(character) if character.is_alphabetic() => {
                self.word();
                match self.form(depth + 1)? {
                    Some(located) => Ok(Some(located.form)),
                    None => Err(self.problem(EdnProblem::EndsInside)),
                }
            }
            Some(other) => Err(self.problem(EdnProblem::Unexpected(other))),
        }
    }

    fn string(&mut self) -> Result<Edn, HistoryError> {
        self.take();
        let mut text = String::new();
        loop {
            let escaped = match self.take() {
                None => return Err(self.problem(EdnProblem::EndsInside)),
                Some('"') => return Ok(Edn::Text(text)),
                Some('\\') => self.take(),
                Some(plain) => {
                    text.push(plain);
                    continue;
                }
            };
            text.push(match escaped {
                None => return Err(self.problem(EdnProblem::EndsInside)),
                Some('n') => '\n',
                Some('t') => '\t',
                Some('r') => '\r',
                Some('b') => '\u{8}',
                Some('f') => '\u{c}',
                Some(same @ ('"' | '\\' | '/')) => same,
                Some('u') => self.code_unit()?,
                Some(_) => return Err(self.problem(EdnProblem::BadEscape)),
            });
        }
    }

    fn code_unit(&mut self) -> Result<char, HistoryError> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.take().and_then(|digit| digit.to_digit(16));
            code = code * 16 + digit.ok_or_else(|| self.problem(EdnProblem::BadEscape))?;
        }
        char::from_u32(code).ok_or_else(|| self.problem(EdnProblem::BadEscape))
    }

    fn character(&mut self) -> Result<Edn, HistoryError> {
        self.take();
        let Some(first) = self.take() else { return Err(self.problem(EdnProblem::EndsInside)) };
        let mut name = String::from(first);
        name.push_str(&self.word());
        Ok(Edn::Text(match name.as_str() {
            "newline" => "\n".to_owned(),
            "space" => " ".to_owned(),
            "tab" => "\t".to_owned(),
            "return" => "\r".to_owned(),
            _ if name.chars().count() == 1 => name,
            _ => return Err(self.problem(EdnProblem::BadToken(format!("\\{name}")))),
        }))
    }

    fn word(&mut self) -> String {
        let mut word = String::new();
        while let Some(character) = self.peek() {
            if character.is_whitespace() || ",;\"()[]{}".contains(character) {
                break;
            }
            word.push(character);
            self.take();
        }
        word
    }

    fn token(&mut self) -> Result<Edn, HistoryError> {
        let (line, column) = (self.line, self.column);
        let word = self.word();
        assert!(!word.is_empty(), "brackets, quotes and blanks are dealt with before tokens");
        let bad = || HistoryError::at(line, column, Problem::Edn(EdnProblem::BadToken(word.clone())));
        let unsigned = word.trim_start_matches(['+', '-']);
        if unsigned.starts_with(|character: char| character.is_ascii_digit()) {
            let whole = word.strip_suffix('N').unwrap_or(&word);
            if let Ok(number) = whole.parse() {
                return Ok(Edn::Integer(number));
            }
            let number: f64 = word.strip_suffix('M').unwrap_or(&word).parse().map_err(|_| bad())?;
            // A whole number beyond 64 bits would lose digits as a float.
            return if word.contains(['.', 'e', 'E', 'M']) { Ok(Edn::Float(number)) } else { Err(bad()) };
        }
        match word.as_str() {
            "nil" => Ok(Edn::Nil),
            "true" => Ok(Edn::Boolean(true)),
            "false" => Ok(Edn::Boolean(false)),
            _ => match word.strip_prefix(':') {
                Some("") => Err(bad()),
                Some(name) => Ok(Edn::Keyword(name.to_owned())),
                None => Ok(Edn::Symbol(word)),
            },
        }
    }
}
