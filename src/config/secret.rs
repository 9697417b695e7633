//! Values that may be secrets.

use std::fmt;
use std::ops::Range;

use secrecy::SecretString;

/// One option of a host as it was written: any of them may be a secret, so none is ever shown by `Debug`.
#[derive(Clone)]
pub struct Setting {
    /// The value; numbers and booleans in their TOML spelling.
    pub value: SecretString,
    /// Where it came from, for `check`: `config`, `environment variable X`, `file ~/key`, `credential mine`, …
    pub origin: String,
    /// Where it stands in the configuration's text.
    pub span: Range<usize>,
}

impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[REDACTED from {}]", self.origin)
    }
}
