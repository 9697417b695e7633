//! Working out a checked text: functions, codes and encodings.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::codes::What;
use super::syntax::{Call, Encoding, Function, Piece, Text};
use super::xpath::XPath;
use super::{jsonpath, regexp};
use crate::host::recipe::Answer;
use crate::host::recipe::template::Scope;

/// What stands unencoded in `{filename}` inside of a URL (RFC 3986 "unreserved").
const FILE_NAME: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The title of a prompt that has none.
pub(super) const NO_TITLE: &str = "input";

/// What a text sees.
pub(super) struct World<'a> {
    pub(super) scope: &'a Scope,
    /// `None` before the request.
    pub(super) answer: Option<&'a Answer>,
    /// Whether `{filename}` is percent-encoded.
    pub(super) encodes_names: bool,
    /// Numbers the places at which something is drawn; begins at a number of its own for each field.
    pub(super) draws: Cell<u64>,
    /// The lists that were chosen from, by their [`place_of`].
    pub(super) chosen: RefCell<Vec<u64>>,
    /// Whether a function that reads the answer found something, or there was none.
    pub(super) found: Cell<Found>,
}

/// What the functions that read the answer have found so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// None was asked.
    NotAsked,
    /// All came out empty.
    Nothing,
    Something,
}

impl Text {
    /// The text that it stands for.
    ///
    /// # Errors
    /// Why a function failed. Never contains a value.
    pub(super) fn work_out(&self, world: &World<'_>) -> Result<String, String> {
        let twelve = self.codes().iter().any(|code| code.what == What::HalfDay);
        let mut out = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Literal(text) => out.push_str(text),
                Piece::Code(code) if code.option_name().is_some() => {
                    out.push_str(&world.option(&code.option_name().unwrap_or_default()));
                }
                Piece::Code(code) => out.push_str(&code.value(&world.scope.draw, world.next_draw(), twelve)),
                Piece::Call(call) => {
                    let value = call.work_out(world)?;
                    if call.function.reads_answer(call.params.len()) || call.params.iter().any(reads_answer) {
                        let nothing = value.is_empty() && world.found.get() != Found::Something;
                        world.found.set(if nothing { Found::Nothing } else { Found::Something });
                    }
                    out.push_str(&value);
                }
                Piece::Encoded(encoding, text) => out.push_str(&encoding.apply(&text.work_out(world)?)),
            }
        }
        Ok(out)
    }
}

/// Where the draws that belong to `text` begin: those of different texts must not repeat each other.
pub(super) fn place_of(text: &str) -> u64 {
    let hash = blake3::hash(text.as_bytes());
    let bytes = hash.as_bytes();
    u64::from(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])) << 12
}

fn reads_answer(text: &Text) -> bool {
    text.calls().iter().any(|call| call.function.reads_answer(call.params.len()))
}

impl World<'_> {
    fn next_draw(&self) -> u64 {
        self.draws.set(self.draws.get() + 1);
        self.draws.get()
    }

    /// Where the next choice from `list` is drawn: the first one of every field of an attempt is the same, so that a link
    /// can name the site that was chosen for the request; so is the second one.
    fn place_of_list(&self, list: &str) -> u64 {
        let place = place_of(list);
        let mut chosen = self.chosen.borrow_mut();
        chosen.push(place);
        place + chosen.iter().filter(|other| **other == place).count() as u64
    }

    fn body(&self) -> &str {
        self.answer.map_or("", |answer| answer.body.as_str())
    }

    fn option(&self, name: &str) -> String {
        self.scope.options.get(name).cloned().unwrap_or_default()
    }
}

impl Call {
    fn work_out(&self, world: &World<'_>) -> Result<String, String> {
        let param = |i: usize| self.params.get(i).map_or(Ok(String::new()), |param| param.work_out(world));
        match self.function {
            Function::FileName => {
                let name = world.scope.file.get("name").cloned().unwrap_or_default();
                Ok(if world.encodes_names { utf8_percent_encode(&name, FILE_NAME).to_string() } else { name })
            }
            // The text of text uploaders; a file has none.
            Function::Input => Ok(String::new()),
            Function::Response => Ok(world.body().trim_start_matches('\u{feff}').to_owned()),
            Function::ResponseUrl => Ok(world.answer.map_or_else(String::new, |answer| answer.url.clone())),
            Function::Header => Ok(header(world, &param(0)?)),
            Function::Json => self.json(world),
            Function::Xml => {
                let (input, path) = self.input_and_rest(world, 2)?;
                XPath::compile(&path[0])?.find(&input)
            }
            Function::Regex => {
                let (input, rest) = self.input_and_rest(world, 3)?;
                let group = rest.get(1).map_or("", String::as_str);
                let found = regexp::find(&regexp::compile(&rest[0])?, &input, group)?;
                Ok(found.unwrap_or_default())
            }
            Function::Random => {
                let list = self.params.iter().map(ToString::to_string).collect::<Vec<_>>().join("|");
                param(world.scope.draw.index(world.place_of_list(&list), self.params.len()))
            }
            Function::Base64 => {
                let secret = self.params[0].calls().into_iter().find(|call| call.function == Function::Secret);
                match secret.filter(|_| world.scope.preview) {
                    Some(secret) => secret.work_out(world),
                    None => Ok(STANDARD.encode(param(0)?)),
                }
            }
            Function::Select => Ok(world.option(&self.option_name().unwrap_or_default())),
            Function::InputBox => Ok(world.option(&self.option_name().unwrap_or_default())),
            Function::OutputBox => {
                let text = param(self.params.len().min(2) - 1)?;
                tracing::debug!(bytes = text.len(), "The uploader has a message for a window, which is not shown.");
                Ok(String::new())
            }
            Function::Secret => Ok(world.option(&param(0)?)),
            Function::Base64File => Ok(world.scope.content.as_deref().unwrap_or_default().to_owned()),
            Function::DataUri => {
                let mime = world.scope.file.get("mime").map_or("application/octet-stream", String::as_str);
                Ok(format!("data:{mime};base64,{}", world.scope.content.as_deref().unwrap_or_default()))
            }
        }
    }

    /// The name of the option that answers a prompt or a selection; `None` for other functions.
    pub(super) fn option_name(&self) -> Option<String> {
        match self.function {
            Function::InputBox => {
                let title = self.params.first().map(ToString::to_string).unwrap_or_default();
                let title = title.trim().trim_end_matches(':').to_owned();
                Some(format!("prompt.{}", if title.is_empty() { NO_TITLE } else { &title }))
            }
            Function::Select => Some("prompt.select".to_owned()),
            _ => None,
        }
    }

    /// The text to search in, and the other parameters: the answer, unless there are as many as `with_input`.
    fn input_and_rest<'w>(
        &self,
        world: &'w World<'_>,
        with_input: usize,
    ) -> Result<(Cow<'w, str>, Vec<String>), String> {
        let mut values = self.params.iter().map(|param| param.work_out(world)).collect::<Result<Vec<_>, _>>()?;
        if values.len() < with_input {
            return Ok((Cow::Borrowed(world.body().trim_start_matches('\u{feff}')), values));
        }
        let input = values.remove(0);
        Ok((Cow::Owned(input), values))
    }

    fn json(&self, world: &World<'_>) -> Result<String, String> {
        let (input, rest) = self.input_and_rest(world, 2)?;
        if rest[0].is_empty() {
            return Ok(String::new());
        }
        let path = jsonpath::compile(&rest[0])?;
        if let (Cow::Borrowed(_), Some(answer)) = (&input, world.answer)
            && let Some(json) = answer.json()
        {
            return jsonpath::find(&path, json);
        }
        let json = serde_json::from_str(&input).map_err(|_| "the text is no JSON".to_owned())?;
        jsonpath::find(&path, &json)
    }
}

fn header(world: &World<'_>, name: &str) -> String {
    let Some(answer) = world.answer else { return String::new() };
    let values = answer.headers.get_all(name.trim()).iter();
    let values: Vec<_> = values.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect();
    values.join(",")
}

impl Encoding {
    pub(super) fn apply(self, text: &str) -> String {
        match self {
            Self::Form => form(text),
            Self::Json => {
                let quoted = super::json::quoted(text);
                quoted[1..quoted.len() - 1].to_owned()
            }
            Self::Xml => text
                .replace('&', "&amp;")
                .replace('<', "&lt;")
                .replace('>', "&gt;")
                .replace('"', "&quot;")
                .replace('\'', "&apos;"),
        }
    }
}

/// Form encoding as .NET has it: small hexadecimal digits.
fn form(text: &str) -> String {
    use std::fmt::Write as _;

    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' ' => out.push('+'),
            b'-' | b'_' | b'.' | b'!' | b'*' | b'(' | b')' => out.push(char::from(byte)),
            byte if byte.is_ascii_alphanumeric() => out.push(char::from(byte)),
            byte => {
                let _ = write!(out, "%{byte:02x}");
            }
        }
    }
    out
}
