//! The `{…}` syntax of era C: text → [`Text`], with every mistake and every oddity of a field at once.
//!
//! What ShareX does with text that is not well formed (it drops the rest at a stray `|` or `}`) is kept and noted, so
//! that a file does here what it does there.

use std::fmt;

use super::codes::{Code, What, code_at};

/// How deep calls may stand in calls: published files need two.
const DEPTH_LIMIT: usize = 16;

/// Where a text stands: decides which functions make sense and whether `%` codes are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// `RequestURL`: before the answer, no `%` codes.
    Url,
    /// A value of `Parameters` or `Headers`.
    Request,
    /// A value of `Arguments`: may hold the file's content.
    Argument,
    /// `URL` and the other fields that are read after the answer.
    Response,
}

impl Place {
    fn has_codes(self) -> bool {
        matches!(self, Self::Request | Self::Argument)
    }
}

/// What a call computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    FileName,
    Input,
    Response,
    ResponseUrl,
    Header,
    Json,
    Xml,
    Regex,
    Random,
    Base64,
    Select,
    InputBox,
    OutputBox,
    /// Ours: a value from the configuration.
    Secret,
    /// Ours: the file as base64.
    Base64File,
    /// Ours: the file as `data:image/png;base64,…`.
    DataUri,
}

/// Name, function and the least number of parameters. The first name of a function is the one we write.
const FUNCTIONS: [(&str, Function, usize); 17] = [
    ("filename", Function::FileName, 0),
    ("input", Function::Input, 0),
    ("response", Function::Response, 0),
    ("responseurl", Function::ResponseUrl, 0),
    ("header", Function::Header, 1),
    ("json", Function::Json, 1),
    ("xml", Function::Xml, 1),
    ("regex", Function::Regex, 1),
    ("random", Function::Random, 2),
    ("base64", Function::Base64, 1),
    ("select", Function::Select, 1),
    ("inputbox", Function::InputBox, 0),
    ("prompt", Function::InputBox, 0),
    ("outputbox", Function::OutputBox, 1),
    ("secret", Function::Secret, 1),
    ("base64file", Function::Base64File, 0),
    ("datauri", Function::DataUri, 0),
];

impl Function {
    fn name(self) -> &'static str {
        FUNCTIONS.iter().find(|(_, function, _)| *function == self).map_or("", |(name, ..)| name)
    }

    /// Whether it reads the answer, given this many parameters.
    pub(super) fn reads_answer(self, params: usize) -> bool {
        match self {
            Self::Response | Self::ResponseUrl | Self::Header | Self::OutputBox => true,
            Self::Json | Self::Xml => params < 2,
            Self::Regex => params < 3,
            _ => false,
        }
    }

    /// Whether it is the file's content.
    pub(super) fn is_content(self) -> bool {
        matches!(self, Self::Base64File | Self::DataUri)
    }
}

/// How a value is made fit for what surrounds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    /// Form encoding: a space is `+`, hexadecimal digits are small.
    Form,
    /// The inside of a JSON string.
    Json,
    /// XML text or attribute.
    Xml,
}

/// A part of a [`Text`].
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Piece {
    Literal(String),
    Code(Code),
    Call(Call),
    /// Made when a request is put together; never written in a file.
    Encoded(Encoding, Text),
}

/// `{function:param|param}`
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Call {
    pub(super) function: Function,
    pub(super) params: Vec<Text>,
}

/// A checked text.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Text(pub(super) Vec<Piece>);

impl Text {
    /// This text and nothing else.
    pub(super) fn literal(text: impl Into<String>) -> Self {
        let text = text.into();
        Self(if text.is_empty() { Vec::new() } else { vec![Piece::Literal(text)] })
    }

    /// What it is, if nothing in it is worked out.
    pub(super) fn as_literal(&self) -> Option<String> {
        let text = |piece: &Piece| match piece {
            Piece::Literal(text) => Some(text.clone()),
            _ => None,
        };
        self.0.iter().map(text).collect()
    }

    pub(super) fn push(&mut self, c: char) {
        match self.0.last_mut() {
            Some(Piece::Literal(text)) => text.push(c),
            _ => self.0.push(Piece::Literal(c.into())),
        }
    }

    /// Every call in it, also inside of others.
    pub(super) fn calls(&self) -> Vec<&Call> {
        let mut calls = Vec::new();
        for piece in &self.0 {
            match piece {
                Piece::Call(call) => {
                    calls.push(call);
                    calls.extend(call.params.iter().flat_map(Text::calls));
                }
                Piece::Encoded(_, text) => calls.extend(text.calls()),
                Piece::Literal(_) | Piece::Code(_) => {}
            }
        }
        calls
    }

    /// Every code in it.
    pub(super) fn codes(&self) -> Vec<&Code> {
        let mut codes = Vec::new();
        for piece in &self.0 {
            match piece {
                Piece::Code(code) => codes.push(code),
                Piece::Call(call) => codes.extend(call.params.iter().flat_map(Text::codes)),
                Piece::Encoded(_, text) => codes.extend(text.codes()),
                Piece::Literal(_) => {}
            }
        }
        codes
    }

    /// Whether the file's content stands in it.
    pub(super) fn has_content(&self) -> bool {
        self.calls().iter().any(|call| call.function.is_content())
    }

    /// How it is written in a field at `place`.
    pub(super) fn written(&self, place: Place) -> String {
        let mut out = String::new();
        self.write(place, &mut out);
        out
    }

    fn write(&self, place: Place, out: &mut String) {
        let mut after_code = false;
        for piece in &self.0 {
            match piece {
                Piece::Literal(text) => {
                    for (at, c) in text.char_indices() {
                        let is_code = place.has_codes() && c == '%' && code_at(&text[at..]).is_some();
                        // A letter could make another code of the one before it.
                        if matches!(c, '{' | '}' | '|' | '\\') || is_code || (after_code && at == 0) {
                            out.push('\\');
                        }
                        out.push(c);
                    }
                }
                Piece::Code(code) => out.push_str(&code.text),
                Piece::Call(call) => {
                    out.push('{');
                    out.push_str(call.function.name());
                    for (i, param) in call.params.iter().enumerate() {
                        out.push(if i == 0 { ':' } else { '|' });
                        param.write(place, out);
                    }
                    out.push('}');
                }
                Piece::Encoded(_, text) => text.write(place, out),
            }
            after_code = matches!(piece, Piece::Code(_));
        }
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written(Place::Argument))
    }
}

/// What was found while a text was read: mistakes keep the file from being used, notes do not.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Findings {
    pub(super) mistakes: Vec<String>,
    pub(super) notes: Vec<String>,
}

/// Reads `text`, which stands at `place` under the key `key`. Messages name functions and columns, never other parts of
/// the text.
pub(super) fn parse(key: &str, text: &str, place: Place, found: &mut Findings) -> Text {
    let mut parser = Parser { key, chars: text.char_indices().collect(), at: 0, text, place, stopped: false, found };
    let parsed = parser.text(0);
    if parser.at < parser.chars.len() && !parser.stopped {
        parser.stray();
    }
    parsed
}

struct Parser<'t> {
    key: &'t str,
    text: &'t str,
    chars: Vec<(usize, char)>,
    at: usize,
    place: Place,
    /// The rest is thrown away.
    stopped: bool,
    found: &'t mut Findings,
}

impl Parser<'_> {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).map(|(_, c)| *c).filter(|_| !self.stopped)
    }

    fn mistake(&mut self, column: usize, message: &str) {
        self.found.mistakes.push(format!("{}: column {}: {message}", self.key, column + 1));
    }

    fn note(&mut self, column: usize, message: &str) {
        self.found.notes.push(format!("{}: column {}: {message}", self.key, column + 1));
    }

    /// An unescaped `|` or `}` outside of a call.
    fn stray(&mut self) {
        let stray = self.chars[self.at].1;
        let message =
            format!("a `{stray}` outside of braces ends the text, as in ShareX: write `\\{stray}` if it belongs to it");
        self.note(self.at, &message);
        self.stopped = true;
    }

    /// Up to a `|` or `}` that is not escaped, or the end.
    fn text(&mut self, depth: usize) -> Text {
        let mut text = Text::default();
        while let Some(c) = self.peek() {
            match c {
                '|' | '}' => break,
                '{' => {
                    let from = self.at;
                    self.at += 1;
                    if depth >= DEPTH_LIMIT {
                        self.mistake(from, "calls stand too deep in each other");
                        self.stopped = true;
                    } else {
                        text.0.extend(self.call(depth + 1, from).into_iter().map(Piece::Call));
                    }
                }
                _ => self.plain(c, &mut text),
            }
        }
        text
    }

    /// A character that is neither a call nor the end of one.
    fn plain(&mut self, c: char, text: &mut Text) {
        if c == '\\' {
            self.at += 1;
            if let Some(escaped) = self.peek() {
                text.push(escaped);
                self.at += 1;
            }
            return;
        }
        let code = code_at(&self.text[self.chars[self.at].0..]).filter(|_| c == '%' && self.place.has_codes());
        match code {
            Some(code) => {
                match code.what {
                    What::FileLine => self.mistake(self.at, "`%rf` would send lines of files: it is not supported"),
                    What::Private => {
                        let message = format!(
                            "`{0}` would tell who you are: it is empty unless `{1}` is set; for plain text write `\\{0}`",
                            code.text,
                            code.option_name().unwrap_or_default()
                        );
                        self.note(self.at, &message);
                    }
                    _ => {}
                }
                self.at += code.text.chars().count();
                text.0.push(Piece::Code(code));
            }
            None => {
                text.push(c);
                self.at += 1;
            }
        }
    }

    /// What follows a `{`. More than one call when a `|` stands in the name.
    fn call(&mut self, depth: usize, from: usize) -> Vec<Call> {
        let mut calls = Vec::new();
        let mut piped = false;
        loop {
            let (name, dynamic) = self.name(depth);
            let mut params = Vec::new();
            if self.peek() == Some(':') {
                loop {
                    self.at += 1;
                    params.push(self.text(depth));
                    if self.peek() != Some('|') {
                        break;
                    }
                }
            }
            if dynamic {
                self.mistake(from, "a function's name cannot be worked out by another function");
            } else {
                calls.extend(self.checked(&name, params, from));
            }
            match self.peek() {
                Some('|') => {
                    self.note(
                        self.at,
                        "a `|` before any `:` ends a function's name, and the text after its braces is lost",
                    );
                    piped = true;
                    self.at += 1;
                }
                Some(_) => {
                    self.at += 1;
                    self.stopped = piped;
                    return calls;
                }
                None => {
                    if !self.stopped {
                        self.note(from, "the brace is never closed: the end of the text closes it");
                    }
                    return calls;
                }
            }
        }
    }

    /// A function's name, and whether a call stands in it.
    fn name(&mut self, depth: usize) -> (String, bool) {
        let (mut name, mut dynamic) = (Text::default(), false);
        while let Some(c) = self.peek() {
            match c {
                ':' | '|' | '}' => break,
                '{' if depth < DEPTH_LIMIT => {
                    let from = self.at;
                    self.at += 1;
                    self.call(depth + 1, from);
                    dynamic = true;
                }
                _ => self.plain(c, &mut name),
            }
        }
        (name.written(Place::Url), dynamic)
    }

    fn checked(&mut self, name: &str, params: Vec<Text>, from: usize) -> Option<Call> {
        if name.is_empty() {
            self.mistake(from, "Function name cannot be empty");
            return None;
        }
        let Some((_, function, least)) = FUNCTIONS.iter().find(|(known, ..)| known.eq_ignore_ascii_case(name)) else {
            // The name may be a piece of a secret that happens to have braces.
            let shown = if name.chars().count() > 20 { "…" } else { name };
            self.mistake(from, &format!("Invalid function name: {}", shown.escape_default()));
            return None;
        };
        if params.len() < *least {
            self.mistake(from, &format!("Minimum parameter count for function \"{}\" is {least}", function.name()));
            return None;
        }
        let before_answer = self.place != Place::Response;
        if before_answer && function.reads_answer(params.len()) {
            let message =
                format!("`{{{}}}` reads the answer, and the request is made before there is one", function.name());
            self.mistake(from, &message);
            return None;
        }
        if function.is_content() && self.place != Place::Argument {
            self.mistake(from, &format!("`{{{}}}` can stand in Data and Arguments only", function.name()));
            return None;
        }
        if *function == Function::Secret && params[0].as_literal().is_none_or(|name| name.is_empty()) {
            self.mistake(from, "`{secret:NAME}` needs a plain name");
            return None;
        }
        Some(Call { function: *function, params })
    }
}

/// Reads the `Data` field: `%` codes and the tokens `{input}`, `{filename}` and ours; every other brace is text.
pub(super) fn parse_data(text: &str, encoding: Option<Encoding>, found: &mut Findings) -> Text {
    let mut data = Text::default();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if let Some((call, len)) = token(rest) {
            let inner = Text(vec![Piece::Call(call)]);
            data.0.push(match encoding {
                Some(encoding) => Piece::Encoded(encoding, inner),
                None => inner.0.into_iter().next().unwrap_or(Piece::Literal(String::new())),
            });
            rest = &rest[len..];
            continue;
        }
        if let Some(code) = code_at(rest).filter(|_| c == '%') {
            match code.what {
                What::FileLine => {
                    found.mistakes.push("Data: `%rf` would send lines of files: it is not supported".into())
                }
                What::Private => {
                    let option = code.option_name().unwrap_or_default();
                    let text = &code.text;
                    found
                        .notes
                        .push(format!("Data: `{text}` would tell who you are: it is empty unless `{option}` is set"));
                }
                _ => {}
            }
            rest = &rest[code.text.len()..];
            data.0.push(Piece::Code(code));
            continue;
        }
        data.push(c);
        rest = &rest[c.len_utf8()..];
    }
    data
}

/// The token that `text` begins with, and its length.
fn token(text: &str) -> Option<(Call, usize)> {
    let (inside, _) = text.strip_prefix('{')?.split_once('}')?;
    let (name, param) = inside.split_once(':').map_or((inside, None), |(name, param)| (name, Some(param)));
    let (_, function, _) = FUNCTIONS.iter().find(|(known, ..)| known.eq_ignore_ascii_case(name))?;
    let params = match (function, param) {
        (Function::Input | Function::FileName | Function::Base64File | Function::DataUri, None) => Vec::new(),
        (Function::Secret, Some(param)) if !param.is_empty() => vec![Text::literal(param)],
        _ => return None,
    };
    Some((Call { function: *function, params }, inside.len() + 2))
}

/// How `Data` is written.
pub(super) fn written_data(data: &Text) -> String {
    let mut out = String::new();
    for piece in &data.0 {
        match piece {
            Piece::Literal(text) => out.push_str(text),
            Piece::Code(code) => out.push_str(&code.text),
            Piece::Encoded(_, inner) => out.push_str(&inner.written(Place::Url)),
            Piece::Call(call) => out.push_str(&Text(vec![Piece::Call(call.clone())]).written(Place::Url)),
        }
    }
    out
}
